//! XBackendTrafficPolicies: how the sessions persist of rules that send requests to their targets (GEP-1619).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::api::{BackendTrafficPolicy, SessionPersistence, creation_timestamp, object_name};
use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::translate::{
    PolicyStatus, Resources,
    condition::{self, Refusal, kind, reason},
    last_good,
    policy::{self, Attachments, Precedence, Target},
    route::persistence::{self, Place},
};

/// All XBackendTrafficPolicies.
#[derive(Clone, Debug, Default)]
pub(in crate::translate) struct TrafficPolicies {
    compiled: BTreeMap<ObjectName, CompiledTraffic>,
    attachments: Attachments,
}

/// An XBackendTrafficPolicy, compiled.
#[derive(Clone, Debug, PartialEq)]
struct CompiledTraffic {
    generation: Option<i64>,
    precedence: Precedence,
    targets: Vec<Target>,
    /// What it asks of sessions, or why rules that send requests to its targets are answered 500.
    persistence: Result<Option<Arc<SessionPersistence>>, Refusal>,
    /// What of it counts for nothing.
    ignored: Vec<String>,
}

// === impl TrafficPolicies ===

impl TrafficPolicies {
    /// Compiles all policies anew. Returns the backends for which something else counts than before.
    pub(in crate::translate) fn update(&mut self, resources: &Resources) -> BTreeSet<ObjectRef> {
        let policies = resources.backend_traffic_policies().iter();
        let compiled: BTreeMap<_, _> = policies.map(|(name, policy)| (name.clone(), compile(policy, resources))).collect();
        let attachments = Attachments::settle(compiled.values().map(|policy| (&policy.precedence, policy.targets.as_slice())));
        let before = std::mem::replace(self, Self { compiled, attachments });
        let objects: BTreeSet<&ObjectRef> = before.attachments.objects().chain(self.attachments.objects()).collect();
        objects.into_iter().filter(|object| before.of(object) != self.of(object)).cloned().collect()
    }

    /// How sessions persist that have to do with a backend; `None`: no policy says so.
    ///
    /// # Errors
    /// Which policy is wrong, and how.
    pub(in crate::translate) fn of(&self, backend: &ObjectRef) -> Result<Option<Arc<SessionPersistence>>, String> {
        let Some(name) = self.attachments.of(backend, None) else { return Ok(None) };
        let Some(compiled) = self.compiled.get(name) else { return Ok(None) };
        compiled.persistence.clone().map_err(|refusal| format!("XBackendTrafficPolicy {name}: {}", refusal.message))
    }

    /// The policies that are for a backend, whether they count or not.
    pub(in crate::translate) fn naming(&self, backend: &ObjectRef) -> impl Iterator<Item = &ObjectName> {
        self.attachments.naming(backend)
    }

    /// All policies.
    pub(in crate::translate) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.compiled.keys()
    }

    /// The backends that a policy is for.
    pub(in crate::translate) fn targets_of(&self, policy: &ObjectName) -> impl Iterator<Item = &ObjectRef> {
        self.compiled.get(policy).into_iter().flat_map(|policy| &policy.targets).map(|target| &target.object)
    }

    /// The status of a policy; `gateways`: through which requests come to its targets.
    pub(in crate::translate) fn status(
        &self,
        name: &ObjectName,
        gateways: BTreeSet<ObjectName>,
        resources: &Resources,
        controller_name: &str,
    ) -> Option<PolicyStatus> {
        let compiled = self.compiled.get(name)?;
        let generation = compiled.generation;
        let refused = compiled.persistence.as_ref().err().cloned();
        let refused = refused.or_else(|| self.attachments.conflict(name)).or_else(|| missing_target(compiled, resources));
        let accepted = match resources.refused(&ObjectRef { kind: Kind::BackendTrafficPolicy, name: name.clone() }) {
            Some(refused) => last_good::condition(refused, generation),
            None => {
                let ignored: String = compiled.ignored.iter().map(|ignored| format!("; ignored: {ignored}")).collect();
                let words = format!("the policy counts{ignored}");
                condition::from_refusal(kind::ACCEPTED, refused.as_ref(), (reason::ACCEPTED, &words), generation)
            }
        };
        Some(policy::status(gateways, controller_name, &[accepted]))
    }
}

fn compile(policy: &BackendTrafficPolicy, resources: &Resources) -> CompiledTraffic {
    let name = object_name(&policy.metadata);
    let mut ignored: Vec<String> = policy.spec.other.keys().map(|field| format!("spec.{}, which is not served", word(field))).collect();
    let targets = targets(policy, &name, &mut ignored);
    let unreadable = resources.refused(&ObjectRef { kind: Kind::BackendTrafficPolicy, name: name.clone() });
    let persistence = match unreadable.filter(|refused| refused.outline) {
        Some(refused) => Err(Refusal::new(reason::INVALID, &*refused.message)),
        None => read(policy.spec.session_persistence.as_ref()),
    };
    let precedence = Precedence { age: creation_timestamp(&policy.metadata), name };
    CompiledTraffic { generation: policy.metadata.generation, precedence, targets, persistence, ignored }
}

/// What is written, if it can be read: each rule reads it for itself.
fn read(written: Option<&SessionPersistence>) -> Result<Option<Arc<SessionPersistence>>, Refusal> {
    let Some(written) = written else { return Ok(None) };
    match persistence::read(written, Place::Policy { scope: "" }) {
        Ok(_) => Ok(Some(Arc::new(written.clone()))),
        Err(wrong) => Err(Refusal::new(reason::INVALID, format!("spec.{wrong}"))),
    }
}

/// What the policy is for, all of its own namespace.
fn targets(policy: &BackendTrafficPolicy, name: &ObjectName, ignored: &mut Vec<String>) -> Vec<Target> {
    let mut targets = Vec::new();
    for (index, written) in policy.spec.target_refs.iter().enumerate() {
        let kind = Kind::from_group_kind(&written.group, &written.kind).filter(|kind| matches!(kind, Kind::Service | Kind::Upstream));
        match kind {
            Some(kind) => {
                targets.push(Target { object: ObjectRef::new(kind, name.namespace.clone(), written.name.as_str()), section: None })
            }
            None => ignored.push(format!(
                "spec.targetRefs[{index}]: kind {} is not supported; expected a Service or an Upstream",
                word(&written.kind)
            )),
        }
    }
    targets
}

fn missing_target(policy: &CompiledTraffic, resources: &Resources) -> Option<Refusal> {
    if policy.targets.is_empty() {
        return Some(Refusal::new(reason::TARGET_NOT_FOUND, "spec.targetRefs: expected at least one target that is supported"));
    }
    let missing = policy.targets.iter().find(|target| !resources.contains(&target.object))?;
    Some(Refusal::new(reason::TARGET_NOT_FOUND, format!("spec.targetRefs: there is no {}", missing.object)))
}
