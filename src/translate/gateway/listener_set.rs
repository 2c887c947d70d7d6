//! ListenerSets: which Gateways they add their listeners to, and what they say in their status (GEP-1713).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use gateway_api::experimental::gateways::Gateway;

use crate::api::{ListenerSet, creation_timestamp};
use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::translate::{
    Condition, ListenerSetStatus, ListenerStatus, Resources,
    condition::{Refusal, fails, holds, kind, reason},
    last_good,
};

use super::{listener::CompiledListener, namespaces::NamespacePolicy};

/// A ListenerSet of a Gateway of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct CompiledListenerSet {
    pub(in crate::translate) name: Arc<ObjectName>,
    generation: Option<i64>,
    /// Why none of its listeners is served.
    refused: Option<Refusal>,
    /// Its listeners among those of the Gateway; none where it is refused.
    pub(in crate::translate) listeners: Range<usize>,
}

/// ListenerSets by the Gateway that they name, the oldest first, then by namespace and name.
pub(in crate::translate) type ListenerSets = BTreeMap<ObjectName, Vec<Arc<ListenerSet>>>;

/// Sorts all ListenerSets to their Gateways.
pub(super) fn by_gateway(resources: &Resources) -> ListenerSets {
    let mut sets = ListenerSets::new();
    for (name, set) in resources.listener_sets() {
        if let Some(gateway) = parent(name, set) {
            sets.entry(gateway).or_default().push(Arc::clone(set));
        }
    }
    for of_gateway in sets.values_mut() {
        // Stable: those of one age stay in the order of their names.
        of_gateway.sort_by_key(|set| creation_timestamp(&set.metadata));
    }
    sets
}

/// The Gateway that a ListenerSet names; `None`: its parent is something else.
pub(in crate::translate) fn parent(name: &ObjectName, set: &ListenerSet) -> Option<ObjectName> {
    let parent = &set.spec.parent_ref;
    let is_gateway = parent.group.as_deref().is_none_or(|group| group == Kind::Gateway.group())
        && parent.kind.as_deref().is_none_or(|kind| kind == Kind::Gateway.as_str());
    is_gateway.then(|| ObjectName::new(parent.namespace.as_deref().unwrap_or(&name.namespace), parent.name.as_str()))
}

/// Which ListenerSets a Gateway takes.
pub(in crate::translate) fn policy(gateway: &Gateway) -> Result<NamespacePolicy, String> {
    let allowed = gateway.spec.allowed_listeners.as_ref();
    NamespacePolicy::of_listener_sets(allowed.and_then(|allowed| allowed.namespaces.as_ref()))
}

/// Whether a Gateway takes a ListenerSet.
///
/// # Errors
/// Why not.
pub(super) fn admit(
    gateway: &ObjectName,
    policy: &Result<NamespacePolicy, String>,
    set: &ObjectName,
    resources: &Resources,
) -> Result<(), Refusal> {
    let policy = policy.as_ref().map_err(|why| not_allowed(format!("spec.{why} of Gateway {gateway}")))?;
    if policy.allows(&gateway.namespace, &set.namespace, resources) {
        return Ok(());
    }
    Err(not_allowed(format!("spec.allowedListeners of Gateway {gateway} allows no ListenerSets of namespace {}", word(&set.namespace))))
}

fn not_allowed(message: String) -> Refusal {
    Refusal::new(reason::NOT_ALLOWED, message)
}

// === impl CompiledListenerSet ===

impl CompiledListenerSet {
    /// One that the Gateway takes, or not.
    pub(in crate::translate) fn new(name: &Arc<ObjectName>, set: &ListenerSet, refused: Option<Refusal>, listeners: Range<usize>) -> Self {
        Self { name: Arc::clone(name), generation: set.metadata.generation, refused, listeners }
    }

    /// Whether it counts in the Gateway's status.
    pub(super) fn is_attached(&self, listeners: &[CompiledListener]) -> bool {
        self.refused.is_none() && self.own(listeners).any(|listener| listener.is_valid())
    }

    fn own<'a>(&self, listeners: &'a [CompiledListener]) -> impl Iterator<Item = &'a CompiledListener> + use<'a> {
        listeners.get(self.listeners.clone()).unwrap_or_default().iter()
    }

    /// Its status. `gateway`: why the whole Gateway is not served; `programmed`: of each of its listeners; `attached`: of each of the
    /// Gateway's.
    pub(in crate::translate) fn status(
        &self,
        gateway: Option<&Refusal>,
        listeners: &[CompiledListener],
        programmed: &[Result<(), Refusal>],
        attached: &[i32],
        resources: &Resources,
    ) -> ListenerSetStatus {
        let refused = resources.refused(&ObjectRef { kind: Kind::ListenerSet, name: (*self.name).clone() });
        let mut accepted = self.accepted(gateway, listeners);
        if let Some(refused) = refused {
            accepted = last_good::condition(refused, self.generation);
        }
        let outcomes = || programmed.iter();
        let is_served = accepted.status == "True" || refused.is_some() && self.is_attached(listeners);
        let set_programmed = if is_served {
            self.programmed(self.own(listeners).zip(outcomes()))
        } else {
            fails(kind::PROGRAMMED, accepted.reason, accepted.message.clone(), self.generation)
        };
        let attached = attached.get(self.listeners.clone()).unwrap_or_default().iter();
        let entries = self.own(listeners).zip(outcomes()).zip(attached).map(|((listener, programmed), attached)| ListenerStatus {
            name: listener.shape.section.to_string(),
            supported_kinds: listener.supported_kinds(),
            attached_routes: *attached,
            conditions: listener.conditions(programmed.as_ref().err(), self.generation),
        });
        ListenerSetStatus { conditions: vec![accepted, set_programmed], listeners: entries.collect() }
    }

    fn accepted(&self, gateway: Option<&Refusal>, listeners: &[CompiledListener]) -> Condition {
        if let Some(refusal) = &self.refused {
            return fails(kind::ACCEPTED, refusal.reason, refusal.message.clone(), self.generation);
        }
        if let Some(refusal) = gateway {
            let message = format!("its Gateway is not accepted: {}", refusal.message);
            return fails(kind::ACCEPTED, reason::PARENT_NOT_ACCEPTED, message, self.generation);
        }
        let bad: BTreeSet<_> =
            self.own(listeners).filter(|listener| !listener.is_valid()).map(|listener| word(&listener.shape.section).to_string()).collect();
        let words = format!("listeners that are not valid: {}", bad.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
        match bad.len() {
            0 => holds(kind::ACCEPTED, reason::ACCEPTED, "the ListenerSet is valid", self.generation),
            count if count < self.listeners.len() => holds(kind::ACCEPTED, reason::LISTENERS_NOT_VALID, words, self.generation),
            _ => fails(kind::ACCEPTED, reason::LISTENERS_NOT_VALID, words, self.generation),
        }
    }

    /// As a Gateway: programmed as soon as one listener serves and none is still to be bound.
    fn programmed<'a>(&self, listeners: impl Iterator<Item = (&'a CompiledListener, &'a Result<(), Refusal>)>) -> Condition {
        let outcomes: Vec<_> = listeners.filter(|(listener, _)| listener.is_valid()).map(|(_, programmed)| programmed).collect();
        let pending = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).find(|refusal| refusal.reason == reason::PENDING);
        match (pending, outcomes.iter().any(|outcome| outcome.is_ok())) {
            (Some(pending), _) => fails(kind::PROGRAMMED, reason::PENDING, pending.message.clone(), self.generation),
            (None, true) => holds(kind::PROGRAMMED, reason::PROGRAMMED, "requests are served", self.generation),
            (None, false) => {
                let first = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
                let message = first.map_or_else(|| "no listener is valid".to_owned(), |refusal| refusal.message.clone());
                fails(kind::PROGRAMMED, reason::INVALID, message, self.generation)
            }
        }
    }
}
