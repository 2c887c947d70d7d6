//! Who is there: the pods of a Service as its EndpointSlices tell, by the names that maps of slots have for them.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};

use crate::lb::slots::{Pod, PodState};
use crate::translate::backend::endpoints::{Endpoint, only_port};

/// Pods by uid, or by address where it is none of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) struct Pods {
    states: BTreeMap<Box<str>, PodState>,
    /// Addresses are written without their port: one that serves several ports of a Service is one.
    several_ports: bool,
}

// === impl Pods ===

impl Pods {
    /// Those of a Service. A pod that terminates leaves, whether or not it still serves.
    pub(in crate::translate) fn of_service(service: &Service, slices: &[&EndpointSlice]) -> Self {
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).map_or(0, Vec::len);
        let mut pods = Self { states: BTreeMap::new(), several_ports: ports > 1 };
        for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
            for endpoint in &slice.endpoints {
                let state = state(endpoint);
                let uid = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
                match uid.and_then(|target| target.uid.as_deref()).filter(|uid| !uid.is_empty()) {
                    Some(uid) => pods.add(uid.into(), state),
                    None => {
                        let addresses = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
                        let port = only_port(slice).filter(|_| !pods.several_ports);
                        for ip in addresses.map(|ip| ip.to_canonical()) {
                            pods.add(address_id(ip, port), state);
                        }
                    }
                }
            }
        }
        pods
    }

    /// Hosts that are there whatever happens: those of a static Upstream.
    pub(in crate::translate) fn of_hosts(endpoints: &[Endpoint]) -> Self {
        let mut pods = Self::default();
        for endpoint in endpoints {
            pods.add(pods.id(endpoint), PodState::Ready);
        }
        pods
    }

    /// The name of a host in a map of slots.
    pub(in crate::translate) fn id(&self, endpoint: &Endpoint) -> Box<str> {
        match endpoint.pod.as_ref().filter(|pod| !pod.uid.is_empty()) {
            Some(pod) => pod.uid.clone(),
            None => address_id(endpoint.address.ip(), Some(endpoint.address.port()).filter(|_| !self.several_ports)),
        }
    }

    /// As a step of a map takes them.
    pub(in crate::translate) fn list(&self) -> Vec<Pod<'_>> {
        self.states.iter().map(|(id, state)| Pod { id, state: *state }).collect()
    }

    /// Whether a pod is there and does not leave: it keeps what it has.
    pub(in crate::translate) fn stays(&self, id: &str) -> bool {
        match self.states.get(id) {
            Some(PodState::Ready | PodState::NotReady) => true,
            Some(PodState::Leaving) | None => false,
        }
    }

    /// Of one that is listed twice the worse state counts.
    fn add(&mut self, id: Box<str>, state: PodState) {
        let known = self.states.entry(id).or_insert(state);
        *known = (*known).max(state);
    }
}

fn address_id(ip: IpAddr, port: Option<u16>) -> Box<str> {
    match port {
        Some(port) => std::net::SocketAddr::new(ip, port).to_string().into(),
        None => ip.to_string().into(),
    }
}

fn state(endpoint: &SliceEndpoint) -> PodState {
    let conditions = endpoint.conditions.as_ref();
    match conditions.map(|conditions| (conditions.terminating, conditions.ready)) {
        Some((Some(true), _)) => PodState::Leaving,
        Some((_, Some(false))) => PodState::NotReady,
        Some((_, Some(true) | None)) | None => PodState::Ready,
    }
}
