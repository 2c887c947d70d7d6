//! What an install says at its end: that nobody serves its Gateways, routes, Upstreams and RouteOptions any more. What it made in other
//! namespaces goes. Kubernetes deletes the rest together with the chart's ConfigMap.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Service},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::base::{Kind, ObjectName, StatusShape};
use crate::translate::{
    gloo::findings::REPORTED_BY,
    infrastructure::{INSTALL_ANNOTATION, InfrastructureOptions},
};

use super::{
    class_finalizer::SeenClass,
    client::{CallError, FIELD_MANAGER, call, chain, connect},
    discovery::{Discovery, Served},
    installs::{LEASES, OwnInstall},
    lease::{self, PERIOD},
    object::RawObject,
    status::{MergeContext, status_patch, waiting},
};

/// Statuses with something of ours, in the order in which they are let go. A class comes last: with it goes the right to be called ours.
const SHAPES: [StatusShape; 6] =
    [StatusShape::Policy, StatusShape::Route, StatusShape::ListenerSet, StatusShape::Gateway, StatusShape::Gloo, StatusShape::GatewayClass];

/// Kinds with something of ours, in that order.
fn in_order() -> impl Iterator<Item = Kind> {
    SHAPES.into_iter().flat_map(|shape| Kind::ALL.iter().copied().filter(move |kind| kind.facts().status == shape))
}

/// Most objects of one answer.
const PAGE: u32 = 500;

/// Who is at its end.
#[derive(Clone, Debug)]
pub struct ReleaseSettings {
    /// Our controllerName.
    pub controller_name: Arc<str>,
    /// Our keys in the statuses of Gloo's kinds: that of now, and that with the Gloo switch turned.
    pub status_keys: Vec<Box<str>>,
    /// Values of the chart: of them the names count.
    pub infrastructure: Arc<InfrastructureOptions>,
    /// Most time for everything.
    pub deadline: Duration,
}

/// What is ours by its class.
#[derive(Debug, Default)]
struct Ours {
    classes: BTreeSet<String>,
    gateways: BTreeSet<ObjectName>,
}

/// What was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Objects whose status was written.
    pub statuses: usize,
    /// Services that were deleted.
    pub services: usize,
    /// Writes that were refused at the last try.
    pub refused: usize,
}

/// Something could not be let go.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// No API server is known.
    #[error(transparent)]
    Connect(#[from] super::ConnectError),
    /// The API server does not answer, or refuses.
    #[error("{0}")]
    Call(String),
}

/// Takes the Lease, so that nobody writes the statuses back, and lets everything go.
///
/// # Errors
/// The API server does not answer in time, or refuses.
pub async fn release_install(settings: &ReleaseSettings) -> Result<Released, ReleaseError> {
    let client = connect().await?;
    let deadline = Instant::now() + settings.deadline;
    let release = Release { client, settings };
    let result = tokio::time::timeout_at(deadline, release.run()).await;
    result.map_err(|_| ReleaseError::Call(format!("it took longer than {} s", settings.deadline.as_secs())))?
}

/// At the end of a leader: lets everything go if its install is being deleted, which the chart's ConfigMap tells. Rights may be gone already:
/// what is refused stays.
pub(super) async fn release_at_end(client: Client, settings: &ReleaseSettings) {
    let options = &settings.infrastructure;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &options.install_namespace);
    match call(api.get_opt(&options.owner)).await {
        Ok(Some(map)) if map.metadata.deletion_timestamp.is_none() => return,
        Ok(_) => {}
        Err(error) => return tracing::debug!(error = &*chain(&error), "whether this install is being deleted is not known"),
    }
    let release = Release { client, settings };
    match tokio::time::timeout(settings.deadline, release.pass(true)).await {
        Ok(Ok(released)) => tracing::info!(?released, "this install is being deleted: what it said of its Gateways is taken back"),
        Ok(Err(error)) => tracing::warn!(error = &*chain(&error), "this install is being deleted, and its statuses stay as they are"),
        Err(_) => tracing::warn!("this install is being deleted, and some of its statuses stay as they are: there was no time"),
    }
}

struct Release<'a> {
    client: Client,
    settings: &'a ReleaseSettings,
}

// === impl Release ===

impl Release<'_> {
    async fn run(&self) -> Result<Released, ReleaseError> {
        let words = |error: CallError| ReleaseError::Call(chain(&error).to_string());
        let options = &self.settings.infrastructure;
        let own = OwnInstall { controller_name: Arc::clone(&self.settings.controller_name), name: options.install(), installed: None };
        let leases: Api<Lease> = Api::all(self.client.clone());
        let leases = call(leases.list(&ListParams::default().labels(LEASES))).await.map_err(words)?;
        let is_first = own.is_first(&leases.items);
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &options.install_namespace);
        let taken = lease::seize(&api, &options.instance).await.map_err(words)?;
        let mut total = Released::default();
        // A leader learns of it when it renews. What it has written until then is found by one more pass.
        let settled = Instant::now() + PERIOD * 2;
        loop {
            let began = Instant::now();
            let released = self.pass(is_first).await.map_err(words)?;
            total.statuses += released.statuses;
            total.services += released.services;
            total.refused = released.refused;
            let is_settled = !taken || began >= settled;
            if is_settled && released.statuses + released.services + released.refused == 0 {
                return Ok(total);
            }
            let again = if is_settled { began + Duration::from_millis(500) } else { settled };
            tokio::time::sleep_until(again).await;
        }
    }

    /// Looks at everything once. `with_statuses`: statuses are ours; an older install with our controllerName keeps them.
    async fn pass(&self, with_statuses: bool) -> Result<Released, CallError> {
        let mut released = Released::default();
        if with_statuses {
            let ours = self.ours().await?;
            for kind in in_order() {
                self.release_kind(kind, &ours, &mut released).await?;
            }
        }
        self.delete_services(&mut released).await?;
        Ok(released)
    }

    /// Our classes, and the Gateways of them.
    async fn ours(&self) -> Result<Ours, CallError> {
        let mut ours = Ours::default();
        for class in self.list(Kind::GatewayClass).await?.1 {
            ours.classes.extend(self.is_our_class(class.document()).then(|| class.name().name.to_string()));
        }
        for gateway in self.list(Kind::Gateway).await?.1 {
            ours.gateways.extend(ours.has_class_of(gateway.document()).then(|| gateway.name()));
        }
        Ok(ours)
    }

    async fn release_kind(&self, kind: Kind, ours: &Ours, released: &mut Released) -> Result<(), CallError> {
        let (served, objects) = self.list(kind).await?;
        let Some(served) = served else { return Ok(()) };
        for object in objects {
            for write in self.writes(kind, &object, ours, &served) {
                match self.send(kind, &object.name(), &served, write).await {
                    Ok(()) => released.statuses += 1,
                    Err(error) if error.code() == Some(404) => {}
                    Err(error) => {
                        released.refused += 1;
                        tracing::warn!(%kind, object = %object.name(), error = &*chain(&error), "it could not be let go");
                    }
                }
            }
        }
        Ok(())
    }

    fn is_our_class(&self, class: &Value) -> bool {
        class.pointer("/spec/controllerName").and_then(Value::as_str) == Some(&*self.settings.controller_name)
    }

    fn writes(&self, kind: Kind, object: &RawObject, ours: &Ours, served: &Served) -> Vec<ReleaseWrite> {
        let document = object.document();
        let is_ours = match kind {
            Kind::GatewayClass => self.is_our_class(document),
            Kind::Gateway => ours.has_class_of(document),
            Kind::ListenerSet => ours.has_parent_of(&object.name().namespace, document),
            _ => true,
        };
        if !is_ours {
            return Vec::new();
        }
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let namespace = object.name().namespace;
        let context = MergeContext { controller_name: &self.settings.controller_name, namespace: &namespace, now: &now };
        let status = document.get("status").cloned().unwrap_or_default();
        let status = released_status(kind, &status, &self.settings.status_keys, context).map(|status| {
            let patch = json!({"metadata": {"resourceVersion": object.resource_version()}, "status": status});
            if served.has_status { ReleaseWrite::Status(patch) } else { ReleaseWrite::Object(patch) }
        });
        // Without a resourceVersion: the status was just written.
        let finalizer = (kind == Kind::GatewayClass).then(|| SeenClass::of(document).without_finalizer()).flatten().map(|mut patch| {
            if let Some(Value::Object(metadata)) = patch.get_mut("metadata") {
                metadata.remove("resourceVersion");
            }
            ReleaseWrite::Object(patch)
        });
        status.into_iter().chain(finalizer).collect()
    }

    async fn send(&self, kind: Kind, name: &ObjectName, served: &Served, write: ReleaseWrite) -> Result<(), CallError> {
        let api: Api<RawObject> = if kind.is_namespaced() {
            Api::namespaced_with(self.client.clone(), &name.namespace, &served.resource)
        } else {
            Api::all_with(self.client.clone(), &served.resource)
        };
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match write {
            ReleaseWrite::Status(patch) => call(api.patch_status(&name.name, &parameters, &Patch::Merge(patch))).await?,
            ReleaseWrite::Object(patch) => call(api.patch(&name.name, &parameters, &Patch::Merge(patch))).await?,
        };
        Ok(())
    }

    /// All objects of a kind, where the API server has it.
    async fn list(&self, kind: Kind) -> Result<(Option<Served>, Vec<RawObject>), CallError> {
        let found = Discovery::new(self.client.clone()).find(kind, Duration::ZERO).await?;
        let Some(served) = found else { return Ok((None, Vec::new())) };
        let api: Api<RawObject> = Api::all_with(self.client.clone(), &served.resource);
        let (mut objects, mut next) = (Vec::new(), None);
        loop {
            let parameters = ListParams { limit: Some(PAGE), continue_token: next, ..ListParams::default() };
            let page = call(api.list(&parameters)).await?;
            objects.extend(page.items);
            next = page.metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok((Some(served), objects));
            }
        }
    }

    /// Deletes our Services in other namespaces: they have no address of their own. Those in the install namespace have, and go with the
    /// chart's ConfigMap.
    async fn delete_services(&self, released: &mut Released) -> Result<(), CallError> {
        let api: Api<Service> = Api::all(self.client.clone());
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=clingfish");
        for service in call(api.list(&ours)).await?.items.iter().filter(|service| is_left_behind(service, &self.settings.infrastructure)) {
            let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
            let (Some(namespace), Some(name)) = (namespace, name) else { continue };
            let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
            match call(api.delete(name, &DeleteParams::default())).await {
                Ok(_) => released.services += 1,
                Err(error) if error.code() == Some(404) => {}
                Err(error) => {
                    released.refused += 1;
                    tracing::warn!(service = %format!("{namespace}/{name}"), error = &*chain(&error), "it could not be deleted");
                }
            }
        }
        Ok(())
    }
}

/// A JSON merge patch that lets an object go.
#[derive(Clone, Debug, PartialEq)]
enum ReleaseWrite {
    /// Of its status.
    Status(Value),
    /// Of the object itself.
    Object(Value),
}

/// Whether a Service of ours would outlive the install.
fn is_left_behind(service: &Service, options: &InfrastructureOptions) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(INSTALL_ANNOTATION)).is_some_and(|install| *install == options.install())
        && service.metadata.namespace.as_deref() != Some(&*options.install_namespace)
}

// === impl Ours ===

impl Ours {
    /// Whether a Gateway is of one of the classes.
    fn has_class_of(&self, gateway: &Value) -> bool {
        gateway.pointer("/spec/gatewayClassName").and_then(Value::as_str).is_some_and(|class| self.classes.contains(class))
    }

    /// Whether a ListenerSet names one of the Gateways.
    fn has_parent_of(&self, own: &str, set: &Value) -> bool {
        let text = |field: &str| set.pointer(&format!("/spec/parentRef/{field}")).and_then(Value::as_str);
        self.gateways.contains(&ObjectName::new(text("namespace").unwrap_or(own), text("name").unwrap_or_default()))
    }
}

/// The `status` of a JSON merge patch for an object that we do not serve any more; `None` where it says so already. Pure.
fn released_status(kind: Kind, seen: &Value, status_keys: &[Box<str>], context: MergeContext<'_>) -> Option<Value> {
    let says = |condition: &Value, kind: &str| {
        condition.get("type").and_then(Value::as_str) == Some(kind) && condition.get("status").and_then(Value::as_str) == Some("Unknown")
    };
    let conditions = || seen.get("conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_silent = |field: &str| seen.get(field).and_then(Value::as_array).is_none_or(Vec::is_empty);
    match kind.facts().status {
        StatusShape::Policy | StatusShape::Route => status_patch(kind, None, seen, context),
        StatusShape::ListenerSet => {
            let waits = ["Accepted", "Programmed"].iter().all(|kind| conditions().iter().any(|condition| says(condition, kind)));
            let wanted = json!({"conditions": [waiting("Accepted", context.now), waiting("Programmed", context.now)], "listeners": null});
            (!(seen.is_null() || waits && is_silent("listeners"))).then_some(wanted)
        }
        StatusShape::Gateway => {
            let waits = ["Accepted", "Programmed"].iter().all(|kind| conditions().iter().any(|condition| says(condition, kind)));
            let wanted = json!({
                "conditions": [waiting("Accepted", context.now), waiting("Programmed", context.now)], "addresses": null, "listeners": null,
            });
            (!(seen.is_null() || waits && is_silent("addresses") && is_silent("listeners"))).then_some(wanted)
        }
        StatusShape::GatewayClass => {
            let waits = conditions().iter().all(|condition| says(condition, "Accepted")) && !conditions().is_empty();
            (!(seen.is_null() || waits && is_silent("supportedFeatures")))
                .then(|| json!({"conditions": [waiting("Accepted", context.now)], "supportedFeatures": null}))
        }
        StatusShape::Gloo => {
            // Gloo's own controller may have written under the same key.
            let is_ours = |key: &str| {
                let entry = seen.get("statuses").and_then(|statuses| statuses.get(key));
                entry.and_then(|entry| entry.get("reportedBy")).and_then(Value::as_str) == Some(REPORTED_BY)
            };
            let ours: Map<String, Value> =
                status_keys.iter().filter(|key| is_ours(key)).map(|key| (key.to_string(), Value::Null)).collect();
            (!ours.is_empty()).then(|| json!({ "statuses": ours }))
        }
        StatusShape::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(kind: Kind, seen: &Value) -> Option<Value> {
        released_status(
            kind,
            seen,
            &["clingfish".into(), "gloo-system".into()],
            MergeContext { controller_name: "c", namespace: "n", now: "t" },
        )
    }

    /// The status after a JSON merge patch of it, for the plain values of these tests.
    fn patched(seen: &Value, patch: &Value) -> Value {
        let mut result = seen.clone();
        for (key, value) in patch.as_object().unwrap() {
            match (value, &mut result[key]) {
                (Value::Null, _) => drop(result.as_object_mut().unwrap().remove(key)),
                (Value::Object(fields), Value::Object(standing)) => {
                    for (field, value) in fields {
                        if value.is_null() { drop(standing.remove(field)) } else { drop(standing.insert(field.clone(), value.clone())) }
                    }
                }
                (value, standing) => *standing = value.clone(),
            }
        }
        result
    }

    #[test]
    fn what_is_not_served_any_more_says_so_once_and_the_words_of_others_stay() {
        let holds = |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": "s"});
        let waits = |kind: &str| waiting(kind, "t");
        let parent = |controller: &str| json!({"parentRef": {"name": "g"}, "controllerName": controller, "conditions": []});
        for (kind, seen, expected) in [
            (
                Kind::Gateway,
                json!({"conditions": [holds("Accepted"), holds("Programmed")], "addresses": [{"value": "10.0.0.1"}], "listeners": [{"name": "http"}]}),
                json!({"conditions": [waits("Accepted"), waits("Programmed")]}),
            ),
            (
                Kind::GatewayClass,
                json!({"conditions": [holds("Accepted"), holds("SupportedVersion")], "supportedFeatures": [{"name": "Gateway"}]}),
                json!({"conditions": [waits("Accepted")]}),
            ),
            (Kind::HttpRoute, json!({"parents": [parent("other"), parent("c")]}), json!({"parents": [parent("other")]})),
            (
                Kind::Upstream,
                json!({"statuses": {"gloo-system": {"state": 1, "reportedBy": "gloo"}, "clingfish": {"state": "Accepted", "reportedBy": "clingfish"}}}),
                json!({"statuses": {"gloo-system": {"state": 1, "reportedBy": "gloo"}}}),
            ),
            (
                Kind::RouteOption,
                json!({"statuses": {"gloo-system": {"reportedBy": "clingfish"}, "clingfish": {"reportedBy": "clingfish"}, "edge": {"reportedBy": "clingfish"}}}),
                json!({"statuses": {"edge": {"reportedBy": "clingfish"}}}),
            ),
        ] {
            let patch = released(kind, &seen).unwrap_or_else(|| panic!("{kind} keeps its status"));
            let after = patched(&seen, &patch);
            assert_eq!(after, expected, "{kind}");
            assert_eq!(released(kind, &after), None, "{kind} is written again and again");
            assert_eq!(released(kind, &Value::Null), None, "{kind} without a status");
        }
    }

    #[test]
    fn only_what_nobody_else_deletes_is_deleted() {
        let options = InfrastructureOptions { install_namespace: "system".into(), ..Default::default() };
        let service = |namespace: &str, install: &str| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "s", "namespace": namespace, "annotations": {INSTALL_ANNOTATION: install}}}))
                .unwrap()
        };
        assert!(is_left_behind(&service("team", "system/clingfish"), &options));
        assert!(!is_left_behind(&service("system", "system/clingfish"), &options), "its address may still be wanted");
        assert!(!is_left_behind(&service("team", "other/clingfish"), &options));
        assert!(!is_left_behind(&Service::default(), &options));
    }
}
