//! Writes internal ports and Services into the cluster, if this process is the leader. A port is allocated first. Once translation sees
//! that it is bound, the Service gets it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::base::{Backoff, Message, ObjectName, text::word};
use crate::telemetry::Metrics;
use crate::translate::infrastructure::{Infrastructure, InfrastructureOptions, PortTable, allocate};

use super::{
    class_finalizer::{FinalizerTurn, SeenClass},
    client::{CallError, FIELD_MANAGER, call, chain},
    config_map::{MapWrite, StoredMap},
    contests::{Contests, Turn, fields, rival},
    gate::{ClusterEvent, Gate},
    object::RawObject,
    services::{Write, writes},
};

/// Waits after a refused write.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// The ports and Services that exist, and those that ought to. It outlives the writer.
#[derive(Debug, Default)]
pub(super) struct InfrastructureState {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether `desired` speaks of everything: before, a Service that is not wanted may only not be known yet.
    armed: bool,
    desired: Option<Arc<Infrastructure>>,
    services: BTreeMap<ObjectName, Value>,
    classes: BTreeMap<Box<str>, SeenClass>,
    /// The ConfigMap; `None` inside: it does not exist. `None` outside: it was not read yet.
    ports: Option<Option<StoredMap>>,
    /// What the ConfigMap has said so far: what it loses is written again.
    remembered: PortTable,
}

/// Who writes, and where.
#[derive(Clone, Debug)]
pub(super) struct InfrastructureSettings {
    /// Values of the chart.
    pub(super) options: Arc<InfrastructureOptions>,
    /// The object with which ours are deleted.
    pub(super) owner: Option<OwnerReference>,
}

// === impl InfrastructureState ===

impl InfrastructureState {
    /// The first translation of everything is bound: what is not wanted now is not wanted.
    pub(super) fn arm(&self) {
        self.lock().armed = true;
        self.changed.notify_one();
    }

    /// What ought to exist.
    pub(super) fn desire(&self, infrastructure: &Arc<Infrastructure>) {
        let mut state = self.lock();
        if state.desired.as_ref() != Some(infrastructure) {
            state.desired = Some(Arc::clone(infrastructure));
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Services as they are; `None`: gone.
    pub(super) fn see_services(&self, services: Vec<(ObjectName, Option<Value>)>) {
        if services.is_empty() {
            return;
        }
        let mut state = self.lock();
        for (name, service) in services {
            match service {
                Some(service) => drop(state.services.insert(name, service)),
                None => drop(state.services.remove(&name)),
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// GatewayClasses as they are; `None`: gone.
    pub(super) fn see_classes(&self, classes: Vec<(Box<str>, Option<SeenClass>)>) {
        if classes.is_empty() {
            return;
        }
        let mut state = self.lock();
        for (name, class) in classes {
            match class {
                Some(class) => drop(state.classes.insert(name, class)),
                None => drop(state.classes.remove(&name)),
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The ConfigMap of ports as it is; `None`: there is none.
    pub(super) fn see_ports(&self, ports: Option<StoredMap>) {
        let mut state = self.lock();
        let mut table = table_of(ports.as_ref());
        table.remember(&state.remembered, now());
        state.remembered = table;
        state.ports = Some(ports);
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn table_of(stored: Option<&StoredMap>) -> PortTable {
    stored.map(|stored| PortTable::parse(&stored.data)).unwrap_or_default()
}

/// Seconds since the epoch.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Deals out ports: pure, with the time told. A table that differs only in ports that have rested is not worth a write. `remembered`: the
/// table as it was before something of it was lost.
fn port_write(
    desired: &Infrastructure,
    stored: Option<&StoredMap>,
    remembered: &PortTable,
    settings: &InfrastructureSettings,
    now: i64,
) -> Option<MapWrite> {
    let written = table_of(stored);
    let mut table = written.clone();
    table.remember(remembered, now);
    let next = allocate(&desired.ports, &table, &desired.led, &settings.options.reserved_ports, now);
    let owner = stored.and_then(|stored| stored.missing_owner(settings.owner.as_ref()));
    if next.taken == written.taken && next.freed.keys().all(|port| written.freed.contains_key(port)) && owner.is_none() {
        return None;
    }
    Some(MapWrite::new(next.to_data(), stored, settings.owner.as_ref()))
}

/// What to do about the finalizers of our classes: pure, with the time told.
fn class_turns(
    desired: &Infrastructure,
    classes: &BTreeMap<Box<str>, SeenClass>,
    options: &InfrastructureOptions,
    now: i64,
) -> BTreeMap<Box<str>, FinalizerTurn> {
    let ours = classes.iter().filter(|(name, _)| desired.classes.contains(*name));
    let turn = |name: &str, class: &SeenClass| {
        class.turn(options.class_finalizer && desired.used_classes.contains(name), options.service_rest, now)
    };
    ours.map(|(name, class)| (name.clone(), turn(name, class))).filter(|(_, turn)| *turn != FinalizerTurn::Nothing).collect()
}

/// Writes ports and Services while this process is the leader; never ends.
pub(super) async fn write_infrastructure(
    client: Client,
    infrastructure_state: Arc<InfrastructureState>,
    mut leader: watch::Receiver<bool>,
    settings: InfrastructureSettings,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
) {
    let mut writer = Writer::new(client, settings);
    let mut told = BTreeMap::new();
    loop {
        let mut again = None;
        if *leader.borrow_and_update() {
            again = writer.turn(&infrastructure_state).await;
        } else {
            writer.unwanted.clear();
            writer.refusals.clear();
        }
        if writer.refusals != told {
            told.clone_from(&writer.refusals);
            metrics.cluster().set_refused_services(told.len());
            gate.pass(ClusterEvent::RefusedServices(told.clone()));
        }
        let until = again.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            () = infrastructure_state.changed.notified() => {}
            result = leader.changed() => if result.is_err() { return },
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

struct Writer {
    client: Client,
    settings: InfrastructureSettings,
    /// Objects whose write was refused: when to try again.
    refused: BTreeMap<ObjectName, (Instant, Backoff)>,
    /// Services that are not wanted any more: when each may be deleted.
    unwanted: BTreeMap<ObjectName, Instant>,
    /// Services that somebody else changes back.
    contests: Contests,
    /// Why the API server refuses what is written to Services.
    refusals: BTreeMap<ObjectName, Message>,
    /// Classes that are being deleted and are held, as was said of them.
    held_classes: BTreeSet<Box<str>>,
}

// === impl Writer ===

impl Writer {
    fn new(client: Client, settings: InfrastructureSettings) -> Self {
        Self {
            client,
            settings,
            refused: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            contests: Contests::default(),
            refusals: BTreeMap::new(),
            held_classes: BTreeSet::new(),
        }
    }

    /// Does what is due; when to come back, where something was refused.
    async fn turn(&mut self, infrastructure_state: &InfrastructureState) -> Option<Instant> {
        let (ports, services, classes) = {
            let state = infrastructure_state.lock();
            let (true, Some(desired), Some(stored)) = (state.armed, &state.desired, &state.ports) else { return None };
            let options = &self.settings.options;
            let owner = self.settings.owner.as_ref();
            (
                port_write(desired, stored.as_ref(), &state.remembered, &self.settings, now()),
                writes(desired, &state.services, owner, options),
                class_turns(desired, &state.classes, options, now()),
            )
        };
        let map = ObjectName::new(self.settings.options.install_namespace.clone(), self.settings.options.instance.clone());
        let is_due = |name: &ObjectName| classes.contains_key(&name.name) && name.namespace.is_empty();
        self.refused.retain(|name, _| services.contains_key(name) || (*name == map && ports.is_some()) || is_due(name));
        self.refusals.retain(|name, _| services.contains_key(name));
        let now = Instant::now();
        if let Some(write) = ports.filter(|_| self.is_due(&map, now)) {
            let result = write.send(&self.client, &map, self.settings.owner.as_ref()).await;
            match result {
                Ok(stored) => {
                    self.refused.remove(&map);
                    infrastructure_state.see_ports(Some(stored));
                }
                Err(error) => self.refuse(&map, "ConfigMap", &error),
            }
        }
        self.unwanted.retain(|name, _| matches!(services.get(name), Some(Write::Delete { .. })));
        for (name, write) in services {
            if !self.is_due(&name, now) || !self.has_rested(&name, &write, now) || !self.may_patch(&name, &write, now).await {
                continue;
            }
            let result = self.write_service(&name, write).await;
            match result {
                Ok(service) => {
                    self.refused.remove(&name);
                    self.refusals.remove(&name);
                    infrastructure_state.see_services(vec![(name, service)]);
                }
                Err(error) => {
                    self.refuse(&name, "Service", &error);
                    if error.is_refusal() {
                        self.refusals.insert(name, chain(&error));
                    }
                }
            }
        }
        let held = self.write_classes(classes, now).await;
        let later = self.unwanted.values().copied().chain(self.contests.waits()).chain(held).filter(|until| *until > now);
        self.refused.values().map(|(until, _)| *until).chain(later).min()
    }

    /// Writes the finalizers of classes; when the next class that is held may go.
    async fn write_classes(&mut self, classes: BTreeMap<Box<str>, FinalizerTurn>, now: Instant) -> Option<Instant> {
        let resource = super::discovery::resource(crate::base::Kind::GatewayClass, "v1");
        let api: Api<RawObject> = Api::all_with(self.client.clone(), &resource);
        let mut held = None;
        self.held_classes.retain(|class| matches!(classes.get(class), Some(FinalizerTurn::Hold(_))));
        for (class, turn) in classes {
            let name = ObjectName::new("", class.clone());
            match turn {
                FinalizerTurn::Nothing => {}
                FinalizerTurn::Hold(rest) => {
                    held = held.into_iter().chain([now + rest]).min();
                    if self.held_classes.insert(class.clone()) {
                        tracing::warn!(
                            "GatewayClass {class} is being deleted while Gateways use it; it is held for {} s, and then they are no longer served",
                            rest.as_secs()
                        );
                    }
                }
                FinalizerTurn::Patch(patch) if self.is_due(&name, now) => {
                    match call(api.patch(&class, &patch_parameters(), &Patch::Merge(patch))).await {
                        // The watch brings what was written.
                        Ok(_) => drop(self.refused.remove(&name)),
                        Err(error) if error.code() == Some(404) => {}
                        Err(error) => self.refuse(&name, "GatewayClass", &error),
                    }
                }
                FinalizerTurn::Patch(_) => {}
            }
        }
        held
    }

    /// Whether a Service has been unwanted for as long as it must be before it is deleted. Who has just begun to lead counts anew.
    fn has_rested(&mut self, name: &ObjectName, write: &Write, now: Instant) -> bool {
        let Write::Delete { rest, .. } = write else { return true };
        let until = *self.unwanted.entry(name.clone()).or_insert_with(|| {
            if !rest.is_zero() {
                tracing::info!(service = %name, "no longer wanted; it will be deleted in {} s", rest.as_secs());
            }
            now + *rest
        });
        until <= now
    }

    fn is_due(&self, name: &ObjectName, now: Instant) -> bool {
        self.refused.get(name).is_none_or(|(until, _)| *until <= now)
    }

    fn refuse(&mut self, name: &ObjectName, kind: &str, error: &CallError) {
        let (until, backoff) = self.refused.entry(name.clone()).or_insert_with(|| (Instant::now(), Backoff::new(RETRY_FIRST, RETRY_MOST)));
        *until = Instant::now() + backoff.next_wait(fastrand::f64());
        // A conflict is settled by what the watch brings.
        if error.code() == Some(409) {
            tracing::debug!("{kind} {name} was changed by somebody else in the meantime");
        } else if error.is_for_a_terminating_namespace() {
            tracing::debug!("{kind} {name} is not written: its namespace is being deleted");
        } else {
            tracing::warn!(error = &*chain(error), "{kind} {name} could not be written; it will be tried again");
        }
    }

    /// Whether a patch is written now; says so where somebody else undoes it.
    async fn may_patch(&mut self, name: &ObjectName, write: &Write, now: Instant) -> bool {
        let Write::Patch(patch) = write else { return true };
        match self.contests.turn(name, patch, now, fastrand::f64()) {
            Turn::Write => true,
            Turn::Wait => false,
            Turn::WriteContested(wait) => {
                let api: Api<Service> = Api::namespaced(self.client.clone(), &name.namespace);
                let named = ListParams::default().fields(&format!("metadata.name={}", name.name));
                let found = call(api.list_metadata(&named)).await.ok().and_then(|list| list.items.into_iter().next());
                let rival = found.and_then(|service| rival(&service.metadata.managed_fields.unwrap_or_default(), patch));
                tracing::warn!(
                    "Service {name}: {} changes {} back again and again; it is written again, but from now on only after {} s",
                    word(rival.as_deref().unwrap_or("somebody")),
                    fields(patch).join(", "),
                    wait.as_secs()
                );
                true
            }
        }
    }

    /// Writes a Service; how it is afterwards.
    async fn write_service(&self, name: &ObjectName, write: Write) -> Result<Option<Value>, CallError> {
        let resource = super::discovery::resource(crate::base::Kind::Service, "v1");
        let api: Api<RawObject> = Api::namespaced_with(self.client.clone(), &name.namespace, &resource);
        match write {
            Write::Create(document) => {
                let service = call(api.create(&post(), &RawObject::from(document))).await?;
                tracing::info!(service = %name, "created");
                Ok(Some(service.into_document(&resource)))
            }
            Write::Patch(patch) => {
                let service = call(api.patch(&name.name, &patch_parameters(), &Patch::Merge(patch))).await?;
                Ok(Some(service.into_document(&resource)))
            }
            Write::Delete { uid, resource_version, .. } => {
                let typed: Api<Service> = Api::namespaced(self.client.clone(), &name.namespace);
                let preconditions = Preconditions { uid: Some(uid), resource_version: Some(resource_version) };
                let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                match call(typed.delete(&name.name, &parameters)).await {
                    Err(error) if error.code() != Some(404) => Err(error),
                    _ => {
                        tracing::info!(service = %name, "deleted: its Gateway is gone");
                        Ok(None)
                    }
                }
            }
        }
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn patch_parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::snapshot::{GatewayPort, TransportPort};
    use crate::translate::infrastructure::WantedPort;

    #[test]
    fn the_table_is_written_when_it_gives_or_takes_a_port() {
        let settings = InfrastructureSettings { options: Arc::default(), owner: None };
        let wanted = |ports: &[u16]| Infrastructure {
            ports: ports
                .iter()
                .map(|port| WantedPort {
                    key: GatewayPort { uid: "u".into(), port: TransportPort::tcp(*port) },
                    gateway: ObjectName::new("n", "g"),
                    assigned: None,
                })
                .collect(),
            ..Default::default()
        };
        let stored = |data: &[(&str, &str)]| StoredMap {
            resource_version: "5".into(),
            owners: vec!["old".into()],
            data: data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let patch =
            |data: Value| Some(MapWrite::Patch { resource_version: "5".into(), data: data.as_object().cloned().unwrap(), owner: None });
        let both = stored(&[("u.80", "8080 n/g"), ("freed.9000", "100 n/x")]);

        let none = PortTable::default();
        let write = |wanted: Infrastructure, stored: Option<&StoredMap>, now| port_write(&wanted, stored, &none, &settings, now);
        let created = write(wanted(&[80]), None, 100);
        assert_eq!(created, Some(MapWrite::Create(BTreeMap::from([("u.80".to_owned(), "8080 n/g".to_owned())]))));
        assert_eq!(write(wanted(&[]), None, 100), None);
        assert_eq!(write(wanted(&[80]), Some(&both), 100), None);
        assert_eq!(write(wanted(&[80]), Some(&both), 5_000), None, "a rested port alone is no reason");
        assert_eq!(write(wanted(&[80, 81]), Some(&both), 5_000), patch(json!({"u.81": "8081 n/g", "freed.9000": null})));
        assert_eq!(write(wanted(&[]), Some(&both), 200), patch(json!({"u.80": null, "freed.8080": "200 n/g"})));

        // What was lost is written again, what rests too.
        let known = PortTable::parse(&stored(&[("u.80", "8181 n/g"), ("freed.9000", "100 n/x")]).data);
        let again = |stored: Option<&StoredMap>, now| port_write(&wanted(&[80]), stored, &known, &settings, now);
        let data = [("u.80", "8181 n/g"), ("freed.9000", "100 n/x")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(again(None, 200), Some(MapWrite::Create(data.into())));
        assert_eq!(again(Some(&stored(&[])), 200), patch(json!({"u.80": "8181 n/g", "freed.9000": "100 n/x"})));
        assert_eq!(again(Some(&stored(&[("u.80", "8181 n/g")])), 200), patch(json!({"freed.9000": "100 n/x"})));
        assert_eq!(again(Some(&stored(&[("u.80", "x"), ("odd", "")])), 900), patch(json!({"u.80": "8181 n/g", "odd": null})));
        assert_eq!(again(Some(&stored(&[("u.80", "8181 n/g")])), 900), None, "it has rested");

        // An owner that is gone would take the table with it.
        let owner = |uid: &str| Some(OwnerReference { uid: uid.into(), ..Default::default() });
        let owned =
            |uid| port_write(&wanted(&[80]), Some(&both), &none, &InfrastructureSettings { owner: owner(uid), ..settings.clone() }, 100);
        assert_eq!(owned("old"), None);
        assert_eq!(owned("new"), Some(MapWrite::Patch { resource_version: "5".into(), data: Map::new(), owner: owner("new") }));
    }
}
