//! One watch for each kind. A kind whose CRD is missing is asked for again; one malformed object stalls nothing.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    core::ApiResource,
    runtime::watcher::{self, Event},
};
use tokio::time::Instant;

use crate::base::{Heartbeat, Kind, ObjectName, ObjectRef};
use crate::translate::infrastructure::{InfrastructureOptions, PortTable};

use super::{
    client::WATCH_SECONDS,
    config_map::StoredMap,
    discovery::{Discovery, Served},
    gate::{ClusterEvent, First, Gate},
    infrastructure::InfrastructureState,
    intake::{Intake, WatchDelta},
    last_good::{self, LastGoodState},
    nodes::Nodes,
    object::RawObject,
    outage::Outage,
    pace::Pace,
    pulse::{Pulse, Waits},
    services,
    status::SharedStatusQueue,
};

/// Time between two questions for a kind whose CRD is missing.
const MISSING_INTERVAL: Duration = Duration::from_secs(3);

/// The same for a kind that is seldom there: two questions a second for nothing would be too many.
const SELDOM_THERE_INTERVAL: Duration = Duration::from_secs(10);

/// How often in a row a kind that was there must be said to be missing before its objects count as gone. An API server that is starting
/// may not know its CRDs yet; and who deletes a CRD deletes its objects first, which the watch tells.
const MISSING_ANSWERS: u32 = 4;

/// Waits while the API server does not answer: short, because endpoints grow stale meanwhile.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Without an error for this long a watch counts as well again.
const RESET_AFTER: Duration = Duration::from_secs(15);

/// How old an answer about the kinds may be where it is asked for the first time: several kinds ask at once.
const FRESH: Duration = Duration::from_secs(1);

/// The waits of a watch. Time without errors resets them. An event does not, since a list that begins may fail before its end.
struct WatchWaits {
    waits: Waits,
    failed: Option<Instant>,
}

/// Where the watches send what they see.
#[derive(Clone, Debug)]
pub(super) struct Outlets {
    /// To the engine.
    pub(super) gate: Arc<Gate>,
    /// Told of changes for translation.
    pub(super) pace: Arc<Pace>,
    /// To the status writer.
    pub(super) queue: Arc<SharedStatusQueue>,
    /// To the infrastructure writer.
    pub(super) infrastructure_state: Arc<InfrastructureState>,
    /// To the writer of last good versions.
    pub(super) last_good: Arc<LastGoodState>,
    /// Told of failures.
    pub(super) outage: Arc<Outage>,
    /// Ends watches when the API server is silent.
    pub(super) pulse: Arc<Pulse>,
    /// What the API server has.
    pub(super) discovery: Arc<Discovery>,
    /// Values of the chart.
    pub(super) options: Arc<InfrastructureOptions>,
}

// === impl WatchWaits ===

impl WatchWaits {
    fn new(pulse: &Pulse) -> Self {
        Self { waits: pulse.waits(RETRY_FIRST, RETRY_MOST), failed: None }
    }

    /// The watch has failed: until it is time to try again.
    async fn wait(&mut self) {
        let now = Instant::now();
        if self.failed.is_some_and(|failed| now.saturating_duration_since(failed) > RESET_AFTER) {
            self.waits.reset();
        }
        self.failed = Some(now);
        self.waits.wait().await;
    }
}

// === impl Outlets ===

impl Outlets {
    fn send(&self, delta: WatchDelta) {
        let WatchDelta { changes, statuses, services, classes } = delta;
        self.queue.see(statuses);
        self.infrastructure_state.see_classes(classes);
        if !services.is_empty() {
            let observe = |service: &serde_json::Value| services::observe(service, &self.options);
            let observed = services.iter().map(|(name, service)| (name.clone(), service.as_ref().map(observe))).collect();
            self.infrastructure_state.see_services(services);
            self.gate.pass(ClusterEvent::Services(observed));
        }
        if !changes.is_empty() {
            self.pace.taken();
            self.gate.pass(ClusterEvent::Changes(changes));
        }
    }
}

/// Watches a kind for ever. `intake` outlives the watch: a later one continues where this one broke off.
pub(super) async fn watch_kind(client: Client, kind: Kind, intake: Arc<Mutex<Intake>>, life: Arc<Heartbeat>, outlets: Outlets) {
    let client = outlets.pulse.watching(&client, kind.as_str(), &outlets.outage, Arc::clone(&life));
    let intake = || intake.lock().unwrap_or_else(PoisonError::into_inner);
    intake().forget_contents();
    let mut waits = outlets.pulse.waits(RETRY_FIRST, RETRY_MOST);
    let mut was_missing = false;
    let mut doubts = 0;
    let mut oldest = FRESH;
    loop {
        match outlets.discovery.find(kind, std::mem::replace(&mut oldest, FRESH)).await {
            Ok(Some(served)) => {
                outlets.outage.works(kind.as_str());
                if std::mem::take(&mut was_missing) {
                    tracing::info!("{kind} exists now ({})", served.resource.api_version);
                }
                waits.reset();
                doubts = MISSING_ANSWERS - 1;
                follow(Api::all_with(client.clone(), &served.resource), kind, &Arc::new(served), &intake, &outlets).await;
                continue;
            }
            Ok(None) if doubts > 0 => {
                outlets.outage.works(kind.as_str());
                doubts -= 1;
                tracing::warn!("the API server says that it has no {kind} ({}) any more; it is asked again", kind.group());
                tokio::time::sleep(MISSING_INTERVAL).await;
            }
            Ok(None) => {
                outlets.outage.works(kind.as_str());
                let delta = intake().clear();
                outlets.send(delta);
                outlets.gate.listed(First::Kind(kind));
                if !std::mem::replace(&mut was_missing, true) && is_expected(kind) {
                    tracing::warn!("{kind} ({}) is missing in this cluster; it is watched as soon as its CRD is installed", kind.group());
                }
                let interval = if is_expected(kind) { MISSING_INTERVAL } else { SELDOM_THERE_INTERVAL };
                // An answer that another kind has asked for is as good.
                oldest = interval - FRESH;
                // Nothing to watch is known as well as what is watched.
                let _open = outlets.pulse.open(Arc::clone(&life));
                tokio::time::sleep(interval).await;
            }
            Err(error) => {
                let _ = outlets.outage.failed(kind.as_str(), &*error);
                waits.wait().await;
            }
        }
    }
}

/// Lists and watches until the API server says that it does not have the kind.
async fn follow<'a, L>(api: Api<RawObject>, kind: Kind, served: &Arc<Served>, intake: &L, outlets: &Outlets)
where
    L: Fn() -> std::sync::MutexGuard<'a, Intake>,
{
    let mut events = pin!(watcher::watcher(api, config()));
    let mut waits = WatchWaits::new(&outlets.pulse);
    while let Some(event) = events.next().await {
        if is_sign_of_health(&event) {
            outlets.outage.works(kind.as_str());
        }
        match event {
            Ok(Event::Init) => intake().begin_list(),
            Ok(Event::InitApply(object)) => intake().list_item(object, served),
            Ok(Event::InitDone) => {
                let delta = intake().end_list();
                outlets.send(delta);
                outlets.gate.listed(First::Kind(kind));
            }
            Ok(Event::Apply(object)) => {
                let delta = intake().apply(object, served);
                outlets.send(delta);
            }
            Ok(Event::Delete(object)) => {
                let delta = intake().delete(object.name());
                outlets.send(delta);
            }
            Err(error) if is_not_found(&error) => return,
            Err(error) => {
                tell(kind.as_str(), &error, &outlets.outage);
                waits.wait().await;
            }
        }
    }
}

/// Whether a cluster without the kind is worth a warning. What only Gloo's chart brings is looked for because it may guard something, and what
/// is seldom used may be missing after an upgrade of the chart, since Helm upgrades no CRDs.
fn is_expected(kind: Kind) -> bool {
    !matches!(kind, Kind::AffinityPolicy | Kind::AffinitySlots | Kind::BackendTrafficPolicy | Kind::GatewayParameters)
        && !Kind::GATEWAY_OPTIONS.contains(&kind)
}

/// Whether the API server has answered: the beginning of a list is only our own.
fn is_sign_of_health<T>(event: &Result<Event<T>, watcher::Error>) -> bool {
    matches!(event, Ok(event) if !matches!(event, Event::Init))
}

/// Classic list and watch.
pub(super) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

fn is_not_found(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 404
        }
        watcher::Error::WatchError(status) => status.code == 404,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

/// Logs once while it lasts; a version that is too old only means a new list.
fn tell(what: &str, error: &watcher::Error, outage: &Outage) {
    if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
        tracing::debug!("the watch of {what} is too old; it is listed anew");
    } else {
        let _ = outage.failed(what, error);
    }
}

/// Watches the ConfigMap of ports for ever.
pub(super) async fn watch_ports(client: Client, life: Arc<Heartbeat>, outlets: Outlets) {
    let name = ObjectName::new(outlets.options.install_namespace.clone(), outlets.options.instance.clone());
    let see = |map| {
        see_ports(map, &outlets);
        outlets.gate.listed(First::Ports);
    };
    watch_map(client, life, &name, &outlets, see).await;
}

/// Watches the ConfigMap of last good versions for ever. Only what it holds at the start is handed on: later it is this process, or another
/// one that knows as much, that writes it.
pub(super) async fn watch_last_good(client: Client, life: Arc<Heartbeat>, outlets: Outlets) {
    let mut first = true;
    let see = |map: Option<ConfigMap>| {
        let stored = map.map(StoredMap::from);
        if std::mem::take(&mut first) && !*outlets.gate.is_open().borrow() {
            let versions = stored.as_ref().map(|stored| last_good::versions(&stored.data)).unwrap_or_default();
            outlets.gate.pass(ClusterEvent::LastGood(versions));
        }
        outlets.last_good.see(stored);
        outlets.gate.listed(First::LastGood);
    };
    watch_map(client, life, &last_good::map_name(&outlets.options), &outlets, see).await;
}

/// Watches one ConfigMap for ever; `see` is told how it is, `None` where there is none.
async fn watch_map(client: Client, life: Arc<Heartbeat>, map: &ObjectName, outlets: &Outlets, mut see: impl FnMut(Option<ConfigMap>)) {
    let name = &map.name;
    let what = format!("ConfigMap {name}");
    let outage = &*outlets.outage;
    let api: Api<ConfigMap> = Api::namespaced(outlets.pulse.watching(&client, &what, &outlets.outage, life), &map.namespace);
    let mut events = pin!(watcher::watcher(api, config().fields(&format!("metadata.name={name}"))));
    let mut waits = WatchWaits::new(&outlets.pulse);
    let mut listed = None;
    while let Some(event) = events.next().await {
        if is_sign_of_health(&event) {
            outage.works(&what);
        }
        match event {
            Ok(Event::Init) => listed = None,
            Ok(Event::InitApply(map)) => listed = Some(map),
            Ok(Event::InitDone) => see(listed.take()),
            Ok(Event::Apply(map)) => see(Some(map)),
            Ok(Event::Delete(_)) => see(None),
            Err(error) => {
                tell(&what, &error, outage);
                waits.wait().await;
            }
        }
    }
}

fn see_ports(map: Option<ConfigMap>, outlets: &Outlets) {
    let stored = map.map(StoredMap::from);
    let ports = stored.as_ref().map(|stored| PortTable::parse(&stored.data).ports()).unwrap_or_default();
    outlets.infrastructure_state.see_ports(stored);
    outlets.gate.pass(ClusterEvent::Ports(ports));
}

/// All Secrets of a namespace in which they may be watched, for instant rotation.
pub(super) async fn watch_secrets(
    client: Client,
    namespace: Box<str>,
    life: Arc<Heartbeat>,
    store: Arc<super::referred::Referred>,
    outage: Arc<Outage>,
    pulse: Arc<Pulse>,
) {
    let what = format!("Secrets of namespace {namespace}");
    let resource = super::discovery::resource(Kind::Secret, "v1");
    let api: Api<RawObject> = Api::namespaced_with(pulse.watching(&client, &what, &outage, life), &namespace, &resource);
    let mut events = pin!(watcher::watcher(api, config()));
    let mut waits = WatchWaits::new(&pulse);
    let secret = |object: &RawObject| ObjectRef { kind: Kind::Secret, name: object.name() };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => store.see(&secret(&object), Some(object)),
            Ok(Event::Delete(object)) => store.see(&secret(&object), None),
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => outage.works(&what),
            Err(error) => {
                tell(&what, &error, &outage);
                waits.wait().await;
            }
        }
    }
}

/// Watches nodes for ever, for the addresses at which NodePort Services are reached. Most changes of a node are none of these.
pub(super) async fn watch_nodes(client: Client, life: Arc<Heartbeat>, outlets: Outlets) {
    let Outlets { gate, outage, pulse, .. } = outlets;
    let resource =
        ApiResource { group: String::new(), version: "v1".into(), api_version: "v1".into(), kind: "Node".into(), plural: "nodes".into() };
    let api: Api<RawObject> = Api::all_with(pulse.watching(&client, "Node", &outage, life), &resource);
    let mut events = pin!(watcher::watcher(api, config()));
    let mut waits = WatchWaits::new(&pulse);
    let (mut nodes, mut passed) = (Nodes::default(), None);
    while let Some(event) = events.next().await {
        let is_list = matches!(event, Ok(Event::Init | Event::InitApply(_)));
        match event {
            Ok(Event::Init) => nodes.begin_list(),
            Ok(Event::InitApply(node) | Event::Apply(node)) => nodes.see(&node.name().name, node.document()),
            Ok(Event::InitDone) => nodes.end_list(),
            Ok(Event::Delete(node)) => nodes.forget(&node.name().name),
            Err(error) => {
                tell("Node", &error, &outage);
                waits.wait().await;
                continue;
            }
        }
        if is_list {
            continue;
        }
        let addresses = nodes.addresses();
        if passed.as_ref() != Some(&addresses) {
            gate.pass(ClusterEvent::NodeAddresses(addresses.clone()));
            passed = Some(addresses);
        }
        gate.listed(First::Nodes);
    }
}

/// The intakes of all watched kinds.
pub(super) fn intakes() -> Vec<(Kind, Arc<Mutex<Intake>>)> {
    let watched = Kind::ALL.iter().copied().filter(|kind| !kind.is_read_by_name());
    watched.map(|kind| (kind, Arc::new(Mutex::new(Intake::new(kind))))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_while_errors_come_and_start_again_after_a_quiet_time() {
        let mut waits = WatchWaits::new(&Pulse::default());
        let mut seen = Vec::new();
        for _ in 0..6 {
            let before = Instant::now();
            waits.wait().await;
            seen.push(before.elapsed());
        }
        // Jitter takes at most half; timers are exact to a millisecond.
        let most = RETRY_MOST + Duration::from_millis(2);
        assert!(seen[0] <= RETRY_FIRST + Duration::from_millis(2) && seen[5] >= RETRY_MOST / 2 && seen[5] <= most, "{seen:?}");
        tokio::time::advance(RESET_AFTER + Duration::from_secs(1)).await;
        let before = Instant::now();
        waits.wait().await;
        assert!(before.elapsed() <= RETRY_FIRST + Duration::from_millis(2));
    }
}
