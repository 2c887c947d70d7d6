//! Gateways: what they amount to, what they look like to routes, and their status.

use std::{collections::BTreeMap, net::IpAddr, ops::Range, sync::Arc};

use crate::base::{Kind, Message, ObjectName, ObjectRef, text::word};
use crate::snapshot::{BindAddress, BindState, ClientProfile, Observed, RegexOrder};
use crate::translate::{
    GatewayStatus, ListenerSetStatus, ListenerStatus, Options, Resources,
    condition::{Refusal, fails, holds, kind, reason},
    last_good,
    status::GatewayAddress,
};

use super::{
    listener::CompiledListener,
    listener_set::CompiledListenerSet,
    placement::placed::{Placement, Reached},
    sockets::Socket,
    tls::HostIdentitySource,
};

/// A Gateway of ours, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct CompiledGateway {
    pub(super) generation: Option<i64>,
    /// Why the whole Gateway is not served.
    pub(in crate::translate) refused: Option<Refusal>,
    /// Why its class has become invalid. The Gateway is served as before.
    pub(in crate::translate) outdated_class: Option<String>,
    /// Parameters of Gloo's that it names and that are not read.
    pub(in crate::translate) unread_parameters: Option<String>,
    /// Why its own parameters cannot be used. Its Services stay as they are, and it is served on.
    pub(super) parameters_problem: Option<Refusal>,
    /// Why its clients' certificates prove nothing, where it asks for them.
    pub(super) insecure_frontend: Option<String>,
    /// Its own, and after them those of its ListenerSets.
    pub(in crate::translate) listeners: Vec<CompiledListener>,
    /// How many of the listeners are its own.
    pub(super) own_listeners: usize,
    /// ListenerSets that name it, the oldest first.
    pub(in crate::translate) sets: Vec<CompiledListenerSet>,
    /// Where the listeners of each of them are.
    pub(super) places: BTreeMap<Arc<ObjectName>, Range<usize>>,
    /// It says which ListenerSets it takes, by the labels of their namespaces.
    pub(in crate::translate) reads_labels_of_sets: bool,
    /// What is listened on, with the listeners of each.
    pub(in crate::translate) sockets: Vec<Socket>,
    pub(in crate::translate) profile: Arc<ClientProfile>,
    /// The certificate that hosts are shown which are spoken to in TLS.
    pub(super) host_identity: Option<HostIdentitySource>,
    pub(super) regex_order: RegexOrder,
    pub(super) addresses: Vec<IpAddr>,
    /// In a cluster: what its Services and ports are made of.
    pub(in crate::translate) placement: Option<Placement>,
}

// === impl CompiledGateway ===

impl CompiledGateway {
    /// The listeners that a route sees: the Gateway's own, or those of the ListenerSet that it names. Each with its index.
    pub(in crate::translate) fn seen(&self, set: Option<&ObjectName>) -> impl Iterator<Item = (usize, &CompiledListener)> {
        let places = set.map_or_else(|| Some(0..self.own_listeners), |set| self.places.get(set).cloned()).unwrap_or_default();
        let first = places.start;
        self.listeners.get(places).unwrap_or_default().iter().enumerate().map(move |(index, listener)| (first + index, listener))
    }

    /// The status, given how many routes are attached to each listener.
    pub(in crate::translate) fn status(
        &self,
        name: &ObjectName,
        attached: &[i32],
        resources: &Resources,
        observed: &Observed,
        options: &Options,
    ) -> GatewayStatus {
        let programmed: Vec<_> = (0..self.own_listeners).map(|index| self.programmed(index, observed, options)).collect();
        let listeners = self.own().iter().zip(&programmed).zip(attached.iter().chain(std::iter::repeat(&0)));
        let listeners = listeners.map(|((listener, programmed), attached)| ListenerStatus {
            name: listener.shape.name.to_string(),
            supported_kinds: listener.supported_kinds(),
            attached_routes: *attached,
            conditions: listener.conditions(programmed.as_ref().err(), self.generation),
        });
        let listeners = listeners.collect();
        let reference = ObjectRef { kind: Kind::Gateway, name: name.clone() };
        let accepted = match resources.refused(&reference) {
            Some(refused) => last_good::condition(refused, self.generation),
            None => self.accepted(&programmed),
        };
        let (addresses, programmed) = match (self.gateway_programmed(&programmed), self.assigned_addresses(name, observed, options)) {
            // What is not served has no address, and what has no address is not served.
            (programmed, Some(Err(refusal))) if programmed.status == "True" => {
                (Vec::new(), fails(kind::PROGRAMMED, refusal.reason, refusal.message, self.generation))
            }
            (programmed, Some(reached)) => {
                let (addresses, asides) = reached.unwrap_or_default();
                let words = std::iter::once(programmed.message.to_string()).chain(asides).collect::<Vec<_>>().join("; ");
                (addresses, crate::translate::Condition { message: Message::of_status(words), ..programmed })
            }
            (programmed, None) => (self.status_addresses(observed, options), programmed),
        };
        let sets = self.sets.iter().filter(|set| self.refused.is_none() && set.is_attached(&self.listeners)).count();
        // A Gateway API without ListenerSets has no such field.
        let attached_listener_sets = (!self.sets.is_empty()).then(|| i32::try_from(sets).unwrap_or(i32::MAX));
        let mut conditions = vec![accepted, programmed];
        conditions.extend(self.resolved_refs());
        let insecure = self.insecure_frontend.as_ref();
        conditions.extend(
            insecure.map(|words| holds(kind::INSECURE_FRONTEND_VALIDATION_MODE, reason::CONFIGURATION_CHANGED, words, self.generation)),
        );
        GatewayStatus { addresses, conditions, listeners, attached_listener_sets }
    }

    /// The statuses of these of its ListenerSets.
    pub(in crate::translate) fn set_statuses<'a>(
        &'a self,
        sets: impl Iterator<Item = &'a CompiledListenerSet>,
        attached: &[i32],
        resources: &Resources,
        observed: &Observed,
        options: &Options,
    ) -> Vec<(Arc<ObjectName>, ListenerSetStatus)> {
        let status = |set: &CompiledListenerSet| {
            let programmed: Vec<_> = set.listeners.clone().map(|index| self.programmed(index, observed, options)).collect();
            set.status(self.refused.as_ref(), &self.listeners, &programmed, attached, resources)
        };
        sets.map(|set| (Arc::clone(&set.name), status(set))).collect()
    }

    /// The Gateway's own listeners.
    fn own(&self) -> &[CompiledListener] {
        self.listeners.get(..self.own_listeners).unwrap_or_default()
    }

    /// `programmed`: what became of each listener's sockets; one whose port cannot be had is not accepted.
    fn accepted(&self, programmed: &[Result<(), Refusal>]) -> crate::translate::Condition {
        if let Some(refusal) = &self.refused {
            return fails(kind::ACCEPTED, refusal.reason, refusal.message.clone(), self.generation);
        }
        if let Some(problem) = &self.parameters_problem {
            let message = format!("{}; the Gateway is served on, and its Service stays as it is until this is mended", problem.message);
            return fails(kind::ACCEPTED, problem.reason, message, self.generation);
        }
        let words = self.listeners_in_words(programmed);
        let listeners = || self.own().iter().zip(programmed);
        if listeners().all(|(listener, programmed)| listener.is_refused() || is_unavailable(programmed)) {
            return fails(kind::ACCEPTED, reason::LISTENERS_NOT_VALID, format!("no listener is valid; {words}"), self.generation);
        }
        // One that waits for its certificate is accepted itself, but it cannot be configured: the Gateway names it all the same.
        if listeners().all(|(listener, programmed)| listener.is_valid() && !is_unavailable(programmed)) {
            let asides = self.outdated_class.iter().chain(&self.unread_parameters).map(|why| format!("; {why}")).collect::<String>();
            return holds(kind::ACCEPTED, reason::ACCEPTED, format!("the Gateway is valid{asides}"), self.generation);
        }
        holds(kind::ACCEPTED, reason::LISTENERS_NOT_VALID, words, self.generation)
    }

    /// Which listeners are accepted, which conflict, and which are not valid for other reasons.
    fn listeners_in_words(&self, programmed: &[Result<(), Refusal>]) -> String {
        let named = |is_meant: fn(&CompiledListener, bool) -> bool| -> Vec<String> {
            let meant = self.own().iter().zip(programmed).filter(|(listener, programmed)| is_meant(listener, is_unavailable(programmed)));
            meant.map(|(listener, _)| word(&listener.shape.name).to_string()).collect()
        };
        let groups = [
            ("accepted", named(|listener, unavailable| listener.is_valid() && !unavailable)),
            ("in conflict", named(|listener, _| listener.conflicted.is_some())),
            ("without their port", named(|listener, unavailable| listener.is_valid() && unavailable)),
            ("not valid", named(|listener, _| !listener.is_valid() && listener.conflicted.is_none())),
        ];
        let groups = groups.iter().filter(|(_, names)| !names.is_empty());
        format!("listeners {}", groups.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect::<Vec<_>>().join("; "))
    }

    /// Of a Gateway that refers to something itself: whether that holds, and what its listeners refer to.
    fn resolved_refs(&self) -> Option<crate::translate::Condition> {
        let unresolved = self.host_identity.as_ref()?.unresolved.clone();
        let listeners: Vec<_> = self.own().iter().filter(|listener| listener.unresolved().is_some()).collect();
        let listeners = (!listeners.is_empty()).then(|| {
            let names: Vec<_> = listeners.iter().map(|listener| word(&listener.shape.name).to_string()).collect();
            Refusal::new(reason::LISTENERS_NOT_RESOLVED, format!("references of listeners {} are not resolved", names.join(", ")))
        });
        let words = (reason::RESOLVED_REFS, "all references are resolved");
        Some(crate::translate::condition::from_refusal(kind::RESOLVED_REFS, unresolved.or(listeners).as_ref(), words, self.generation))
    }

    /// Programmed as soon as one listener serves and none is still to be bound.
    fn gateway_programmed(&self, listeners: &[Result<(), Refusal>]) -> crate::translate::Condition {
        if self.refused.is_some() {
            return fails(kind::PROGRAMMED, reason::INVALID, "the Gateway is not accepted", self.generation);
        }
        let valid = || self.own().iter().zip(listeners).filter(|(listener, _)| listener.is_valid()).map(|(_, programmed)| programmed);
        let problem =
            |wanted: &'static str| valid().filter_map(|programmed| programmed.as_ref().err()).find(|refusal| refusal.reason == wanted);
        if let Some(pending) = problem(reason::PENDING) {
            return fails(kind::PROGRAMMED, reason::PENDING, pending.message.clone(), self.generation);
        }
        if let Some(unusable) = problem(reason::ADDRESS_NOT_USABLE) {
            return fails(kind::PROGRAMMED, reason::ADDRESS_NOT_USABLE, unusable.message.clone(), self.generation);
        }
        if valid().any(Result::is_ok) {
            return holds(kind::PROGRAMMED, reason::PROGRAMMED, "requests are served", self.generation);
        }
        let unusable = self.own().iter().filter(|listener| !listener.is_refused()).find_map(CompiledListener::unresolved);
        let failed = valid().find_map(|programmed| programmed.as_ref().err()).or(unusable);
        let message = failed.map_or_else(|| "no listener is valid".to_owned(), |refusal| refusal.message.clone());
        fails(kind::PROGRAMMED, reason::INVALID, message, self.generation)
    }

    /// Whether the sockets of a listener are bound and serve.
    fn programmed(&self, index: usize, observed: &Observed, options: &Options) -> Result<(), Refusal> {
        if self.refused.is_some() {
            return Err(Refusal::new(reason::INVALID, "the Gateway is not accepted"));
        }
        self.sockets_bound(index, observed, options)?;
        let closed = self.listeners.get(index).and_then(|listener| listener.shape.refusal.as_ref());
        closed.map_or(Ok(()), |why| Err(Refusal::new(reason::INVALID, format!("requests are answered 500: {why}"))))
    }

    fn sockets_bound(&self, index: usize, observed: &Observed, options: &Options) -> Result<(), Refusal> {
        if options.assume_bound {
            return Ok(());
        }
        let port = self.listeners.get(index).map(|listener| listener.shape.port);
        if let Some(refusal) = self.placement.as_ref().zip(port).and_then(|(placement, port)| placement.refusal(port)) {
            return Err(refusal);
        }
        let sockets = self.sockets.iter().filter(|socket| socket.listeners.binary_search(&index).is_ok());
        let mut results = sockets.map(|socket| bound(socket.bind, observed));
        results.find(|result| result.is_err()).unwrap_or(Ok(()))
    }

    /// In a cluster: the addresses of its Service, or why there is none.
    fn assigned_addresses(&self, name: &ObjectName, observed: &Observed, options: &Options) -> Option<Result<Reached, Refusal>> {
        let placement = self.placement.as_ref().filter(|_| self.refused.is_none())?;
        Some(placement.addresses(name, observed, options.infrastructure.as_deref()?))
    }

    /// The addresses on which something is listened.
    fn status_addresses(&self, observed: &Observed, options: &Options) -> Vec<GatewayAddress> {
        if self.refused.is_some() {
            return Vec::new();
        }
        let is_bound = |ip: &IpAddr| {
            let mut sockets = self.sockets.iter().filter(|socket| socket.bind.address.ip() == *ip);
            options.assume_bound || sockets.any(|socket| bound(socket.bind, observed).is_ok())
        };
        let known = self.addresses.iter().filter(|ip| !ip.is_unspecified() && is_bound(ip));
        known.map(|ip| GatewayAddress { address_type: "IPAddress", value: ip.to_string() }).collect()
    }
}

fn is_unavailable(programmed: &Result<(), Refusal>) -> bool {
    programmed.as_ref().is_err_and(|refusal| refusal.reason == reason::PORT_UNAVAILABLE)
}

fn bound(bind: BindAddress, observed: &Observed) -> Result<(), Refusal> {
    match observed.bound.get(&bind) {
        Some(BindState::Bound) => Ok(()),
        Some(BindState::Failed(words)) => Err(Refusal::new(reason::PORT_UNAVAILABLE, format!("{bind} cannot be bound: {words}"))),
        Some(BindState::NoAddress(words)) => {
            Err(Refusal::new(reason::ADDRESS_NOT_USABLE, format!("{} is no address of this machine: {words}", bind.address.ip())))
        }
        None => Err(Refusal::new(reason::PENDING, format!("{bind} is not bound yet"))),
    }
}
