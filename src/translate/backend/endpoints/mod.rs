//! From a Service's EndpointSlices to the list of addresses that serve one of its ports.

mod gap;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{ObjectReference, Service, ServicePort},
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};

use crate::lb::Admits;
use crate::snapshot::{Observed, PodRef, Transport, TransportPort};
use crate::translate::Options;

pub use gap::{Gap, StraySlice};

/// Which addresses may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointRules {
    /// The machine reaches IPv6 addresses.
    pub ipv6: bool,
    /// Loopback and link-local addresses may be sent to.
    pub allow_local: bool,
    /// The gateway's own addresses must not be sent to: a request would go round for ever.
    pub own: [Option<IpAddr>; 2],
    /// The number at the end of a pod's host name stands for it in a table, where it has one.
    pub by_ordinal: bool,
    /// Those that terminate and still serve are found too, for the sessions that they have.
    pub keeps_draining: bool,
}

/// An address that serves a port of a Service, or of a static Upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// The pod behind it, where known.
    pub pod: Option<Arc<PodRef>>,
    /// Weight, at least 1; Kubernetes endpoints have 1.
    pub weight: u32,
    /// Hashed in the address's place: the host's name, with `useHostnameForHashing`.
    pub hash_key: Option<Arc<str>>,
    /// The slot whose number is the key.
    pub slot: Option<u32>,
    /// Since when it has the slot, or waits for one, in seconds since the epoch.
    pub placed_since: Option<u64>,
    /// Which of the hashes that fall on it it takes.
    pub admits: Admits,
}

/// The addresses of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// IPv4 before IPv6, then by the number of the address, then by port: where Envoy's choice depends on the order, this is the order.
    pub list: Vec<Endpoint>,
    /// Addresses that were left out because they may not be sent to (loopback, link-local, multicast, unspecified). Sorted.
    pub refused: BTreeSet<IpAddr>,
    /// In the same order: those that terminate and still serve, where they are asked for and not in `list`.
    pub draining: Vec<Endpoint>,
}

/// The port of a Service with this number and transport.
pub fn service_port(service: &Service, wanted: TransportPort) -> Option<&ServicePort> {
    let ports = service.spec.as_ref()?.ports.as_deref()?;
    ports.iter().find(|port| port.port == i32::from(wanted.number) && carries(port, wanted.transport))
}

/// Whether a port of a Service carries this.
pub fn carries(port: &ServicePort, transport: Transport) -> bool {
    port.protocol.as_deref().unwrap_or(Transport::Tcp.as_str()) == transport.as_str()
}

/// The addresses that serve `port` of `service`.
///
/// A slice serves the port under the port's name; of a Service with a single port, its last port with a number. An endpoint counts unless it
/// says that it is not ready; where none is left, those count that terminate and still serve, as kube-proxy has it (KEP-1669): the only pod
/// of a Deployment answers until its successor does. A pod with addresses of both families counts in the Service's first family only.
pub fn endpoints<'a>(
    service: &Service,
    port: &ServicePort,
    slices: impl IntoIterator<Item = &'a EndpointSlice> + Clone,
    rules: EndpointRules,
) -> Endpoints {
    let mut found = endpoints_that(is_ready, service, port, slices.clone(), rules);
    if found.list.is_empty() {
        let leaving = endpoints_that(still_serves, service, port, slices, rules);
        found.list = leaving.list;
        found.refused.extend(leaving.refused);
    } else if rules.keeps_draining {
        let leaving = endpoints_that(still_serves, service, port, slices, rules).list;
        let is_other = |endpoint: &Endpoint| found.list.iter().all(|listed| listed.address != endpoint.address);
        found.draining = leaving.into_iter().filter(is_other).collect();
    }
    found
}

/// The addresses of the endpoints for which `counts` holds.
fn endpoints_that<'a>(
    counts: fn(&SliceEndpoint) -> bool,
    service: &Service,
    port: &ServicePort,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    rules: EndpointRules,
) -> Endpoints {
    let single = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).is_some_and(|ports| ports.len() == 1);
    let mut found = Endpoints::default();
    for slice in slices.into_iter().filter(|slice| slice.address_type != "FQDN") {
        let Some(number) = slice_port(slice, port, single) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| counts(endpoint)) {
            let pod = endpoint.target_ref.as_ref().and_then(|target| pod_ref(target, slice));
            let hash_key = endpoint.hostname.as_deref().filter(|_| rules.by_ordinal).and_then(ordinal).map(Arc::from);
            for ip in endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()) {
                // A v4-mapped address is the IPv4 address, or a forbidden one could hide in it.
                let ip = ip.to_canonical();
                match reach(ip, rules) {
                    Reach::Reachable => {
                        let address = SocketAddr::new(ip, number);
                        found.list.push(Endpoint { pod: pod.clone(), hash_key: hash_key.clone(), ..Endpoint::new(address) });
                    }
                    Reach::NoRoute => {}
                    Reach::Forbidden => {
                        found.refused.insert(ip);
                    }
                }
            }
        }
    }
    drop_second_family(&mut found.list, prefers_ipv6(service));
    sort_and_dedup(&mut found.list);
    found
}

/// Whether an address may and can be sent to.
pub(in crate::translate) enum Reach {
    Reachable,
    /// An IPv6 address, and the machine has none.
    NoRoute,
    /// An address of the gateway itself or of its neighbourhood, or no address of a host.
    Forbidden,
}

/// Judges an address in canonical form.
pub(in crate::translate) fn reach(ip: IpAddr, rules: EndpointRules) -> Reach {
    let (no_host, local) = match ip {
        IpAddr::V4(v4) => (v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(), v4.is_loopback() || v4.is_link_local()),
        IpAddr::V6(v6) => (v6.is_unspecified() || v6.is_multicast(), v6.is_loopback() || v6.is_unicast_link_local()),
    };
    if no_host || (local && !rules.allow_local) || rules.own.contains(&Some(ip)) {
        Reach::Forbidden
    } else if ip.is_ipv6() && !local && !rules.ipv6 {
        Reach::NoRoute
    } else {
        Reach::Reachable
    }
}

/// Sorts, and keeps one endpoint of each address and hash key: the one whose pod is known, with the smallest uid.
fn sort_and_dedup(list: &mut Vec<Endpoint>) {
    fn place(endpoint: &Endpoint) -> (SocketAddr, Option<&str>) {
        (endpoint.address, endpoint.hash_key.as_deref())
    }
    fn pod(endpoint: &Endpoint) -> (bool, Option<(&str, &str, &str)>) {
        (endpoint.pod.is_none(), endpoint.pod.as_ref().map(|pod| (&*pod.uid, &*pod.namespace, &*pod.name)))
    }
    if !list.is_sorted_by(|a, b| place(a) < place(b)) {
        list.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| pod(a).cmp(&pod(b))));
        list.dedup_by(|later, kept| place(later) == place(kept));
    }
}

fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}

fn still_serves(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|conditions| conditions.serving != Some(false) && conditions.terminating == Some(true))
}

/// The number under which a slice serves the Service's port.
fn slice_port(slice: &EndpointSlice, port: &ServicePort, single: bool) -> Option<u16> {
    let ports = slice.ports.as_deref()?;
    let number = if single {
        ports.iter().rev().find_map(|slice_port| slice_port.port)?
    } else {
        let wanted = port.name.as_deref().unwrap_or_default();
        ports.iter().find(|slice_port| slice_port.name.as_deref().unwrap_or_default() == wanted)?.port?
    };
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn pod_ref(target: &ObjectReference, slice: &EndpointSlice) -> Option<Arc<PodRef>> {
    if target.kind.as_deref() != Some("Pod") {
        return None;
    }
    Some(Arc::new(PodRef {
        namespace: target.namespace.as_deref().or(slice.metadata.namespace.as_deref()).unwrap_or_default().into(),
        name: target.name.as_deref()?.into(),
        uid: target.uid.as_deref().unwrap_or_default().into(),
    }))
}

/// The Service's first family; from its cluster IP where the API server did not write the families.
fn prefers_ipv6(service: &Service) -> bool {
    let Some(spec) = service.spec.as_ref() else { return false };
    match spec.ip_families.as_ref().and_then(|families| families.first()) {
        Some(family) => family == "IPv6",
        None => spec.cluster_ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()).is_some_and(|ip| ip.is_ipv6()),
    }
}

/// Of a pod that is there in both families, keeps the addresses of the preferred one.
fn drop_second_family(list: &mut Vec<Endpoint>, prefers_ipv6: bool) {
    if list.iter().all(|endpoint| endpoint.address.is_ipv4()) || list.iter().all(|endpoint| endpoint.address.is_ipv6()) {
        return;
    }
    let mut families: HashMap<Arc<PodRef>, (bool, bool)> = HashMap::new();
    for endpoint in &*list {
        if let Some(pod) = &endpoint.pod {
            let (v4, v6) = families.entry(Arc::clone(pod)).or_default();
            *(if endpoint.address.is_ipv4() { v4 } else { v6 }) = true;
        }
    }
    list.retain(|endpoint| {
        let both = endpoint.pod.as_ref().is_some_and(|pod| families.get(pod) == Some(&(true, true)));
        !both || endpoint.address.is_ipv6() == prefers_ipv6
    });
}

/// The port of a slice that has one.
pub(in crate::translate) fn only_port(slice: &EndpointSlice) -> Option<u16> {
    let number = slice.ports.as_deref()?.iter().rev().find_map(|port| port.port)?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

// === impl Endpoint ===

impl Endpoint {
    /// An address of weight 1 that is hashed itself.
    pub(in crate::translate) fn new(address: SocketAddr) -> Self {
        Self { address, pod: None, weight: 1, hash_key: None, slot: None, placed_since: None, admits: Admits::All }
    }
}

// === impl EndpointRules ===

impl EndpointRules {
    /// The rules of this machine and these options.
    pub fn new(observed: &Observed, options: &Options) -> Self {
        Self {
            ipv6: observed.ipv6,
            allow_local: options.allow_local_endpoints,
            own: options.own_addresses,
            by_ordinal: false,
            keeps_draining: false,
        }
    }
}

/// The number at the end of the host name of a StatefulSet's pod: `3` of `web-3`.
fn ordinal(hostname: &str) -> Option<&str> {
    let number = hostname.rsplit_once('-')?.1;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests;
