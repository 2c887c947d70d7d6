//! Gateways as the memo keeps them: listeners with the routes attached to each, and what the data plane sees of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smallvec::SmallVec;

use crate::base::{ObjectName, ObjectRef};
use crate::snapshot::{
    Bind, BindProtocol, HostMap, HostMapBuilder, HostRoutes, Hostname, Listener, RegexOrder, RouteEntry, Specificity, TlsTermination,
    TransportPort,
};
use crate::translate::{
    Options,
    route::{
        compiled::{Attachment, CompiledRoute},
        table::{RouteId, RouteTable},
    },
};

use super::{
    compiled::CompiledGateway,
    hostname_conflicts::{self, HostnameConflicts},
    listener::{CompiledListener, ListenerShape},
    protocol::Protocol,
    sockets::Socket,
    tls,
};

/// From this many changed hostnames on, a map is built anew.
const REBUILD_FROM: usize = 64;

/// A Gateway of ours with the routes attached to it.
#[derive(Debug)]
pub(in crate::translate) struct GatewayState {
    pub(in crate::translate) name: Arc<ObjectName>,
    pub(in crate::translate) compiled: CompiledGateway,
    listeners: Vec<ListenerState>,
    /// Number of accepted routes, by listener, as the statuses say it.
    reported: Vec<i32>,
    /// TLS by the port declared; kept as long as the certificates stay, since session tickets hang on it.
    terminations: BTreeMap<TransportPort, Arc<TlsTermination>>,
}

/// What a newer version of a Gateway does to its listeners: whose routes must be compiled and attached anew.
#[derive(Debug, Default)]
pub(in crate::translate) struct Relisting {
    /// Its own ones have changed.
    pub(in crate::translate) own: bool,
    /// ListenerSets whose listeners have changed, or their places.
    pub(in crate::translate) sets: BTreeSet<Arc<ObjectName>>,
    /// Of what nothing is to be said any more, unless it is said anew.
    pub(in crate::translate) judged: Vec<(Arc<str>, Hostname)>,
}

/// What is to be said of a hostname of a listener.
#[derive(Debug)]
pub(in crate::translate) struct Judged {
    pub(in crate::translate) listener: Arc<str>,
    pub(in crate::translate) hostname: Hostname,
    /// Routes that something else is told than before.
    pub(in crate::translate) routes: Vec<ObjectRef>,
    pub(in crate::translate) notices: Vec<String>,
}

/// A listener with the routes attached to it.
#[derive(Debug)]
struct ListenerState {
    /// Index within its Gateway.
    index: usize,
    regex_order: RegexOrder,
    /// Routes by the hostname in common.
    members: BTreeMap<Hostname, SmallVec<[RouteId; 1]>>,
    /// Accepted routes.
    attached: BTreeSet<RouteId>,
    /// Hostnames whose routes changed.
    dirty: BTreeSet<Hostname>,
    /// Hostnames whose routes are in each other's way.
    conflicts: BTreeMap<Hostname, HostnameConflicts>,
    snapshot: Arc<Listener>,
}

// === impl GatewayState ===

impl GatewayState {
    /// A Gateway that no route is attached to yet.
    pub(in crate::translate) fn new(name: Arc<ObjectName>, compiled: CompiledGateway) -> Self {
        let state = |(index, listener): (usize, &CompiledListener)| ListenerState::new(index, &listener.shape, compiled.regex_order);
        let listeners = compiled.listeners.iter().enumerate().map(state).collect();
        let terminations = tls::terminations(&compiled.listeners, &compiled.sockets, &BTreeMap::new());
        Self { name, compiled, listeners, reported: Vec::new(), terminations }
    }

    /// Takes a newer version in. Listeners that are in their place as before keep their routes.
    pub(in crate::translate) fn replace(&mut self, compiled: CompiledGateway) -> Relisting {
        let terminations = tls::terminations(&compiled.listeners, &compiled.sockets, &self.terminations);
        let before = std::mem::replace(&mut self.compiled, compiled);
        self.terminations = terminations;
        let now = &self.compiled;
        let mut relisting = Relisting::default();
        let (mut old, mut shapes) =
            (std::mem::take(&mut self.listeners).into_iter(), before.listeners.iter().map(|listener| &listener.shape));
        for (index, listener) in now.listeners.iter().enumerate() {
            let (state, shape) = (old.next(), shapes.next());
            let is_kept = shape == Some(&listener.shape) && before.regex_order == now.regex_order;
            match state {
                Some(state) if is_kept => self.listeners.push(state),
                replaced => {
                    relisting.add(replaced.as_ref(), shape);
                    relisting.add(None, Some(&listener.shape));
                    self.listeners.push(ListenerState::new(index, &listener.shape, now.regex_order));
                }
            }
        }
        old.zip(shapes).for_each(|(state, shape)| relisting.add(Some(&state), Some(shape)));
        relisting
    }

    /// Attaches a route.
    pub(in crate::translate) fn attach(&mut self, id: RouteId, attachment: &Attachment, accepted: bool) {
        let Some(listener) = self.listeners.get_mut(attachment.listener) else { return };
        for hostname in &attachment.hostnames {
            let members = listener.members.entry(hostname.clone()).or_default();
            // In order, so that listeners with the same routes are seen to have the same.
            if let Err(place) = members.binary_search(&id) {
                members.insert(place, id);
            }
            listener.dirty.insert(hostname.clone());
        }
        if accepted && attachment.serves {
            listener.attached.insert(id);
        }
    }

    /// Detaches a route; nothing happens where it is not attached.
    pub(in crate::translate) fn detach(&mut self, id: RouteId, attachment: &Attachment) {
        let Some(listener) = self.listeners.get_mut(attachment.listener) else { return };
        for hostname in &attachment.hostnames {
            if let Some(members) = listener.members.get_mut(hostname) {
                members.retain(|member| *member != id);
                if members.is_empty() {
                    listener.members.remove(hostname);
                }
            }
            listener.dirty.insert(hostname.clone());
        }
        listener.attached.remove(&id);
    }

    /// Judges the hostnames whose routes changed; those come back of which something else has to be said than before.
    pub(in crate::translate) fn judge(&mut self, routes: &RouteTable, options: &Options) -> Vec<Judged> {
        let gateway = &self.name;
        self.listeners.iter_mut().flat_map(|listener| listener.judge(gateway, routes, options)).collect()
    }

    /// The conflicts between the routes of a hostname of a listener, if there are any.
    pub(in crate::translate) fn conflicts_on(&self, listener: usize, hostname: &Hostname) -> Option<&HostnameConflicts> {
        self.listeners.get(listener)?.conflicts.get(hostname)
    }

    /// Listeners and hostnames whose routes conflict.
    pub(in crate::translate) fn judged(&self) -> impl Iterator<Item = (Arc<str>, Hostname)> {
        self.listeners.iter().flat_map(ListenerState::judged)
    }

    /// How many hostnames of listeners are claimed by routes of several namespaces.
    pub(in crate::translate) fn conflicts(&self) -> usize {
        let conflicts = self.listeners.iter().flat_map(|listener| listener.conflicts.values());
        conflicts.filter(|conflicts| conflicts.is_claimed_by_several()).count()
    }

    /// Rebuilds the hostnames whose routes changed.
    pub(in crate::translate) fn rebuild(&mut self, routes: &RouteTable) {
        for index in 0..self.listeners.len() {
            let (done, rest) = self.listeners.split_at_mut(index);
            if let Some(listener) = rest.first_mut() {
                listener.rebuild(&self.name, routes, done);
            }
        }
    }

    /// Number of accepted routes, by listener.
    pub(in crate::translate) fn attached(&self) -> Vec<i32> {
        self.listeners.iter().map(|listener| i32::try_from(listener.attached.len()).unwrap_or(i32::MAX)).collect()
    }

    /// The same numbers for statuses that are about to be made. Says which ListenerSets have other ones than in those before.
    pub(in crate::translate) fn recount(&mut self) -> (Vec<i32>, BTreeSet<Arc<ObjectName>>) {
        let attached = self.attached();
        let before = std::mem::replace(&mut self.reported, attached.clone());
        let counted = attached.iter().enumerate().filter(|(index, count)| before.get(*index) != Some(*count));
        let sets = counted.filter_map(|(index, _)| self.compiled.listeners.get(index)?.shape.set.clone()).collect();
        (attached, sets)
    }

    /// The sockets with their listeners.
    pub(in crate::translate) fn binds(&self) -> impl Iterator<Item = Bind> {
        self.compiled.sockets.iter().map(|socket| {
            let mut listeners = HostMapBuilder::new();
            for listener in socket.listeners.iter().filter_map(|index| self.listeners.get(*index)) {
                listeners.insert(listener.snapshot.hostname.clone(), Arc::clone(&listener.snapshot));
            }
            Bind {
                address: socket.bind.address,
                gateway: Arc::clone(&self.name),
                port: socket.port.number,
                protocol: self.protocol_of(socket),
                profile: Arc::clone(&self.compiled.profile),
                host_identity: self.compiled.host_identity.as_ref().and_then(|identity| identity.certificate.clone()),
                listeners: listeners.build(),
            }
        })
    }
}

impl GatewayState {
    /// What is spoken on a socket. Its listeners agree on it, but for those of TLS: others would conflict.
    fn protocol_of(&self, socket: &Socket) -> BindProtocol {
        let termination = || self.terminations.get(&socket.port).map(Arc::clone);
        let mut protocols = socket.listeners.iter().filter_map(|index| Some(self.compiled.listeners.get(*index)?.shape.protocol));
        match protocols.clone().next() {
            Some(Protocol::Tcp) => BindProtocol::Tcp,
            Some(Protocol::Udp) => BindProtocol::Udp,
            _ if protocols.any(|protocol| protocol == Protocol::Tls) => BindProtocol::Tls(termination().unwrap_or_default()),
            _ => termination().map_or(BindProtocol::Http, BindProtocol::Https),
        }
    }
}

// === impl Relisting ===

impl Relisting {
    /// A listener is not what it was, or where it was.
    fn add(&mut self, state: Option<&ListenerState>, shape: Option<&ListenerShape>) {
        self.judged.extend(state.into_iter().flat_map(ListenerState::judged));
        match shape.map(|shape| &shape.set) {
            Some(Some(set)) => drop(self.sets.insert(Arc::clone(set))),
            Some(None) => self.own = true,
            None => {}
        }
    }
}

// === impl ListenerState ===

impl ListenerState {
    /// Hostnames whose routes conflict, each with the listener.
    fn judged(&self) -> impl Iterator<Item = (Arc<str>, Hostname)> {
        self.conflicts.keys().map(|hostname| (Arc::clone(&self.snapshot.name), hostname.clone()))
    }

    fn new(index: usize, shape: &ListenerShape, regex_order: RegexOrder) -> Self {
        let snapshot = Listener {
            name: Arc::clone(&shape.name),
            hostname: shape.hostname.clone(),
            refusal: shape.refusal.clone(),
            hosts: HostMap::default(),
        };
        Self {
            index,
            regex_order,
            members: BTreeMap::new(),
            attached: BTreeSet::new(),
            dirty: BTreeSet::new(),
            conflicts: BTreeMap::new(),
            snapshot: Arc::new(snapshot),
        }
    }

    fn judge(&mut self, gateway: &ObjectName, routes: &RouteTable, options: &Options) -> Vec<Judged> {
        let mut judged = Vec::new();
        for hostname in &self.dirty {
            let members = self.members.get(hostname).map(|members| in_order(members, routes)).unwrap_or_default();
            let conflicts = hostname_conflicts::find(&members, options);
            let before = self.conflicts.get(hostname);
            if before == conflicts.as_ref() {
                continue;
            }
            let differs =
                |route: &ObjectRef| hostname_conflicts::of_route(before, route) != hostname_conflicts::of_route(conflicts.as_ref(), route);
            let concerned = members.iter().map(|route| &*route.name);
            let concerned = concerned.filter(|route| differs(route)).cloned().collect();
            judged.push(Judged {
                listener: Arc::clone(&self.snapshot.name),
                hostname: hostname.clone(),
                routes: concerned,
                notices: conflicts.iter().flat_map(|conflicts| conflicts.notice(gateway, &self.snapshot.name, hostname)).collect(),
            });
            match conflicts {
                Some(conflicts) => drop(self.conflicts.insert(hostname.clone(), conflicts)),
                None => drop(self.conflicts.remove(hostname)),
            }
        }
        judged
    }

    /// `done`: other listeners of the Gateway, up to date.
    fn rebuild(&mut self, gateway: &ObjectName, routes: &RouteTable, done: &[Self]) {
        if self.dirty.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.dirty);
        let hosts = if dirty.len() >= REBUILD_FROM && dirty.len() > self.members.len() / 8 {
            self.rebuilt(&dirty, gateway, routes, done)
        } else {
            let changes = dirty.into_iter().map(|hostname| {
                let built = self.members.get(&hostname).map(|members| self.shared_routes(&hostname, members, gateway, routes, done));
                (hostname, built)
            });
            self.snapshot.hosts.with(changes)
        };
        self.snapshot = Arc::new(Listener { hosts, ..(*self.snapshot).clone() });
    }

    fn rebuilt(&self, dirty: &BTreeSet<Hostname>, gateway: &ObjectName, routes: &RouteTable, done: &[Self]) -> HostMap<HostRoutes> {
        let mut builder = HostMapBuilder::new();
        for (hostname, members) in &self.members {
            let kept = if dirty.contains(hostname) { None } else { self.snapshot.hosts.get_exact(hostname).cloned() };
            let built = kept.unwrap_or_else(|| self.shared_routes(hostname, members, gateway, routes, done));
            builder.insert(hostname.clone(), built);
        }
        builder.build()
    }

    /// The routes of a hostname; those of a listener that is done, where it has the same ones: mostly all listeners of a Gateway do.
    fn shared_routes(
        &self,
        hostname: &Hostname,
        members: &[RouteId],
        gateway: &ObjectName,
        routes: &RouteTable,
        done: &[Self],
    ) -> Arc<HostRoutes> {
        let twins = done.iter().filter(|listener| listener.members.get(hostname).is_some_and(|others| **others == *members));
        let shared = twins.filter_map(|listener| listener.snapshot.hosts.get_exact(hostname)).next();
        let own = |route: &CompiledRoute| self.own_specificity(hostname, gateway, route);
        let build = || Arc::new(host_routes(hostname, self.regex_order, &in_order(members, routes), own, self.conflicts.get(hostname)));
        shared.map_or_else(build, Arc::clone)
    }

    /// How specific the hostname is by which the route itself serves this one. Only the listener's own hostname narrows what routes write.
    fn own_specificity(&self, hostname: &Hostname, gateway: &ObjectName, route: &CompiledRoute) -> Specificity {
        let here = |attachment: &&Attachment| attachment.listener == self.index && *attachment.gateway == *gateway;
        let narrowed = if *hostname == self.snapshot.hostname { route.attachments.iter().find(here) } else { None };
        narrowed.map_or_else(|| hostname.specificity(), |attachment| attachment.own)
    }
}

/// The routes, the oldest first, then by namespace and name.
fn in_order<'r>(members: &[RouteId], routes: &'r RouteTable) -> SmallVec<[&'r CompiledRoute; 4]> {
    let mut compiled: SmallVec<[&CompiledRoute; 4]> = members.iter().filter_map(|id| routes.get(*id)).collect();
    compiled.sort_by(|one, other| (one.age, &one.name).cmp(&(other.age, &other.name)));
    compiled
}

/// The routes of a hostname, those whose own hostname is the most specific one first; among equals in the order of last resort: age,
/// namespace/name, rule, match; then what answers 500 for matches that are wrong.
fn host_routes(
    hostname: &Hostname,
    order: RegexOrder,
    compiled: &[&CompiledRoute],
    own: impl Fn(&CompiledRoute) -> Specificity,
    conflicts: Option<&HostnameConflicts>,
) -> HostRoutes {
    let serves =
        |route: &CompiledRoute, entry: &RouteEntry| conflicts.is_none_or(|conflicts| conflicts.serves(&route.name, entry.rule.index));
    let served = |route: &CompiledRoute, entries: &[Arc<RouteEntry>]| -> Vec<Arc<RouteEntry>> {
        entries.iter().filter(|entry| serves(route, entry)).cloned().collect()
    };
    let mut tiers: BTreeMap<Reverse<Specificity>, Vec<&CompiledRoute>> = BTreeMap::new();
    for route in compiled {
        tiers.entry(Reverse(own(route))).or_default().push(route);
    }
    let entries = |routes: Vec<&CompiledRoute>| {
        let mut entries: Vec<_> = routes.iter().flat_map(|route| served(route, &route.entries)).collect();
        entries.extend(routes.iter().flat_map(|route| served(route, &route.last_resort)));
        entries
    };
    HostRoutes::build_tiers(hostname.clone(), order, tiers.into_values().map(entries))
}
