//! Gateways: class, addresses, sockets, listeners; what they look like to routes and in their status.

use std::{collections::BTreeMap, net::IpAddr, ops::Range, sync::Arc};

use gateway_api::experimental::gateways::{Gateway, GatewayListeners};
use http::HeaderValue;

use crate::api::{ListenerSet, object_name};
use crate::base::{
    Kind, Message, ObjectName, ObjectRef,
    text::{quoted, word},
};
use crate::snapshot::{BindAddress, BindState, ClientProfile, Observed, RegexOrder};
use crate::translate::{
    GatewayStatus, ListenerSetStatus, ListenerStatus, Options, Resources, UseRemoteAddress,
    certificates::Certificates,
    condition::{Refusal, fails, holds, kind, reason},
    gloo::gateway_option::{self, GatewayOptions},
    last_good,
    options::GLOO_CLASS,
    status::GatewayAddress,
};

use super::{
    claims::Claims,
    gateway_class, infrastructure,
    listener::{self, CompiledListener},
    listener_set::{self, CompiledListenerSet},
    namespaces::NamespacePolicy,
    parameters,
    placement::{self, Placement},
    sockets::{self, Socket},
    tls::{self, HostIdentitySource},
};

/// A Gateway of ours, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct CompiledGateway {
    generation: Option<i64>,
    /// Why the whole Gateway is not served.
    pub(in crate::translate) refused: Option<Refusal>,
    /// Why its class has become invalid. The Gateway is served as before.
    pub(in crate::translate) outdated_class: Option<String>,
    /// Parameters of Gloo's that it names and that are not read.
    pub(in crate::translate) unread_parameters: Option<String>,
    /// Why its own parameters cannot be used. Its Services stay as they are, and it is served on.
    parameters_problem: Option<Refusal>,
    /// Why its clients' certificates prove nothing, where it asks for them.
    insecure_frontend: Option<String>,
    /// Its own, and after them those of its ListenerSets.
    pub(in crate::translate) listeners: Vec<CompiledListener>,
    /// How many of the listeners are its own.
    own_listeners: usize,
    /// ListenerSets that name it, the oldest first.
    pub(in crate::translate) sets: Vec<CompiledListenerSet>,
    /// Where the listeners of each of them are.
    places: BTreeMap<Arc<ObjectName>, Range<usize>>,
    /// It says which ListenerSets it takes, by the labels of their namespaces.
    pub(in crate::translate) reads_labels_of_sets: bool,
    /// What is listened on, with the listeners of each.
    pub(in crate::translate) sockets: Vec<Socket>,
    pub(in crate::translate) profile: Arc<ClientProfile>,
    /// The certificate that hosts are shown which are spoken to in TLS.
    pub(super) host_identity: Option<HostIdentitySource>,
    pub(super) regex_order: RegexOrder,
    addresses: Vec<IpAddr>,
    /// In a cluster: what its Services and ports are made of.
    pub(in crate::translate) placement: Option<Placement>,
}

/// Compiles all Gateways of ours. The oldest Gateway gets a socket, so that the order of events does not matter.
pub(in crate::translate) fn compile_all(
    resources: &Resources,
    observed: &Observed,
    options: &Options,
    gateway_options: &GatewayOptions,
    certificates: &mut Certificates,
) -> BTreeMap<ObjectName, CompiledGateway> {
    certificates.begin();
    let sets = listener_set::by_gateway(resources);
    let mut sources = tls::Sources { resources, certificates };
    let mut compiled: Vec<_> = resources
        .gateways()
        .iter()
        .filter_map(|(name, gateway)| {
            let sets = sets.get(name).map(Vec::as_slice).unwrap_or_default();
            Some((name.clone(), age(gateway), compile(name, gateway, sets, observed, options, gateway_options, &mut sources)?))
        })
        .collect();
    sources.certificates.end();
    compiled.sort_by(|(name, age, _), (other, other_age, _)| (age, name).cmp(&(other_age, other)));
    if options.infrastructure.is_some() {
        let in_order = compiled.iter_mut().enumerate().map(|(rank, (name, _, gateway))| (rank, &*name, gateway));
        placement::place(in_order, observed, options);
    } else {
        let mut taken = sockets::Taken::default();
        for (name, _, gateway) in &mut compiled {
            if gateway.refused.is_none() {
                gateway.sockets = sockets::assign(name, &mut gateway.listeners, &gateway.addresses, options, &mut taken);
            }
        }
    }
    compiled.into_iter().map(|(name, _, gateway)| (name, gateway)).collect()
}

fn age(gateway: &Gateway) -> Option<i128> {
    gateway.metadata.creation_timestamp.as_ref().map(|time| time.0.as_nanosecond())
}

fn compile(
    name: &ObjectName,
    gateway: &Gateway,
    sets: &[Arc<ListenerSet>],
    observed: &Observed,
    options: &Options,
    gateway_options: &GatewayOptions,
    sources: &mut tls::Sources<'_>,
) -> Option<CompiledGateway> {
    let class = match sources.resources.gateway_class(&gateway.spec.gateway_class_name) {
        Some(class) if gateway_class::is_ours(class, options) => Some(class),
        None if options.assumed_classes.contains(&gateway.spec.gateway_class_name) => None,
        _ => return None,
    };
    let (addresses, unsupported) = addresses(gateway);
    let (overrides, problem) = match parameters::of_gateway_service(gateway, sources.resources, options) {
        Ok(overrides) => (Some(overrides), None),
        Err(problem) => (None, Some(problem)),
    };
    // What its Service is to be is not known, but it is there: it stays as it is.
    let is_kept = options.infrastructure.as_deref().is_some_and(|values| infrastructure::stands(name, observed, values));
    let (parameters_problem, parameters_refusal) = if is_kept { (problem, None) } else { (None, problem) };
    let placement = options.infrastructure.is_some().then(|| Placement::new(gateway, class, &addresses, overrides));
    let addresses = if addresses.is_empty() || placement.is_some() { vec![options.bind] } else { addresses };
    let mut class_refusal = class.and_then(|class| gateway_class::refusal(class)).map(|refusal| {
        Refusal::new(refusal.reason, format!("GatewayClass {}: {}", word(&gateway.spec.gateway_class_name), refusal.message))
    });
    // A class is a template: what becomes of it later does not close the ports of Gateways that serve.
    let outdated = class_refusal.take_if(|_| sources.resources.was_admitted(name));
    let outdated_class = outdated.map(|refusal| format!("{}; it was valid before, and this Gateway is served as it was", refusal.message));
    let undecodable = sources.resources.refused(&ObjectRef { kind: Kind::Gateway, name: name.clone() });
    let never_decoded = undecodable.filter(|refused| refused.outline).map(|refused| Refusal::unsupported(&*refused.message));
    let refused = never_decoded.or(class_refusal).or(parameters_refusal).or(unsupported);
    let mut listeners = listener::compile_all(&gateway.spec.listeners);
    let own_listeners = listeners.len();
    let policy = listener_set::policy(gateway);
    let mut written: Vec<&GatewayListeners> = gateway.spec.listeners.iter().collect();
    let sets = add_listener_sets(name, &policy, sets, &mut listeners, &mut written, sources.resources);
    gateway_option::close(name, &mut listeners, gateway_options);
    tls::complete(name, gateway, written.into_iter(), &mut listeners, sources);
    Some(CompiledGateway {
        generation: gateway.metadata.generation,
        refused,
        outdated_class,
        unread_parameters: parameters::gateway_unread(gateway),
        parameters_problem,
        insecure_frontend: tls::insecure_frontend(gateway),
        listeners,
        own_listeners,
        places: sets.iter().map(|set| (Arc::clone(&set.name), set.listeners.clone())).collect(),
        sets,
        reads_labels_of_sets: policy.is_ok_and(|policy| policy.reads_labels()),
        sockets: Vec::new(),
        host_identity: tls::host_identity(name, gateway, sources),
        profile: Arc::new(profile(&gateway.spec.gateway_class_name, options)),
        regex_order: regex_order(&gateway.spec.gateway_class_name),
        addresses,
        placement,
    })
}

/// Adds the listeners of the ListenerSets that the Gateway takes. `written`: all listeners as they are written.
fn add_listener_sets<'a>(
    name: &ObjectName,
    policy: &Result<NamespacePolicy, String>,
    sets: &'a [Arc<ListenerSet>],
    listeners: &mut Vec<CompiledListener>,
    written: &mut Vec<&'a GatewayListeners>,
    resources: &Resources,
) -> Vec<CompiledListenerSet> {
    let mut compiled = Vec::with_capacity(sets.len());
    let mut claims = Claims::of(written.iter().copied());
    for set in sets {
        let set_name = Arc::new(object_name(&set.metadata));
        let first = listeners.len();
        let reference = ObjectRef { kind: Kind::ListenerSet, name: (*set_name).clone() };
        let never_decoded = resources.refused(&reference).filter(|refused| refused.outline);
        let refused = never_decoded.map(|refused| Refusal::unsupported(&*refused.message));
        let refused = refused.or_else(|| listener_set::admit(name, policy, &set_name, resources).err());
        if refused.is_none() {
            listeners.extend(listener::compile_more(&set_name, &set.spec.listeners, &mut claims));
            written.extend(&set.spec.listeners);
        }
        compiled.push(CompiledListenerSet::new(&set_name, set, refused, first..listeners.len()));
    }
    compiled
}

/// The addresses that the Gateway asks for, and the entries of `spec.addresses` that are not supported.
fn addresses(gateway: &Gateway) -> (Vec<IpAddr>, Option<Refusal>) {
    let mut addresses = Vec::new();
    let mut refusal = None;
    for address in gateway.spec.addresses.iter().flatten() {
        let written = address.value.as_deref().unwrap_or_default();
        match (address.r#type.as_deref().unwrap_or("IPAddress"), written.parse::<IpAddr>()) {
            ("IPAddress", _) if written.is_empty() => {}
            ("IPAddress", Ok(ip)) if !addresses.contains(&ip) => addresses.push(ip),
            ("IPAddress", Ok(_)) => {}
            ("IPAddress", Err(_)) => {
                refusal.get_or_insert_with(|| unsupported_address(format!("value {written} is no IP address", written = quoted(written))));
            }
            (other, _) => {
                refusal.get_or_insert_with(|| {
                    unsupported_address(format!("type {other} is not supported; expected IPAddress", other = quoted(other)))
                });
            }
        }
    }
    (addresses, refusal)
}

fn unsupported_address(message: String) -> Refusal {
    Refusal::new(reason::UNSUPPORTED_ADDRESS, format!("spec.addresses: {message}"))
}

/// How the client's address is found: Gloo's way for Gloo's class, else Envoy's way for an edge proxy.
fn profile(class: &str, options: &Options) -> ClientProfile {
    let as_gloo = class == GLOO_CLASS;
    let server = HeaderValue::from_static(if as_gloo { "envoy" } else { "clingfish" });
    ClientProfile {
        use_remote_address: match options.use_remote_address {
            UseRemoteAddress::ByClass => !as_gloo,
            UseRemoteAddress::Always(value) => value,
        },
        xff_num_trusted_hops: options.xff_num_trusted_hops,
        server_header: options.server_header.clone().unwrap_or(server),
        path: options.path,
        headers_with_underscores: options.headers_with_underscores,
    }
}

/// Gloo's order for Gloo's class, so that a route which moves keeps its rule.
fn regex_order(class: &str) -> RegexOrder {
    if class == GLOO_CLASS { RegexOrder::Equals } else { RegexOrder::LongestFirst }
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
    fn assigned_addresses(&self, name: &ObjectName, observed: &Observed, options: &Options) -> Option<Result<placement::Reached, Refusal>> {
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
