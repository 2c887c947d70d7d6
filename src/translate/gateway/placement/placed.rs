//! What is known of a Gateway's place in a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use gateway_api::experimental::{gatewayclasses::GatewayClass, gateways::Gateway};

use crate::base::ObjectName;
use crate::snapshot::{Observed, ServiceAddress, TransportPort};
use crate::translate::{
    condition::{Refusal, reason},
    status::GatewayAddress,
};

use crate::translate::gateway::infrastructure::{self, GatewayFacts, InfrastructureOptions, PortState, ServiceOverrides};

/// What the Services and ports of a Gateway are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct Placement {
    pub(super) uid: Box<str>,
    pub(super) class: Box<str>,
    class_uid: Box<str>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    static_addresses: Vec<IpAddr>,
    /// What its own parameters say; `None`: they cannot be used.
    overrides: Option<Arc<ServiceOverrides>>,
    /// Order of age among all Gateways of ours.
    pub(super) rank: usize,
    pub(super) ports: BTreeSet<TransportPort>,
    pub(super) states: BTreeMap<TransportPort, PortState>,
}

/// The addresses of a Gateway, and what its Service has that is not what is wanted.
pub(in crate::translate::gateway) type Reached = (Vec<GatewayAddress>, Vec<String>);

// === impl Placement ===

impl Placement {
    /// Not placed yet.
    pub(in crate::translate) fn new(
        gateway: &Gateway,
        class: Option<&Arc<GatewayClass>>,
        static_addresses: &[IpAddr],
        overrides: Option<Arc<ServiceOverrides>>,
    ) -> Self {
        let infrastructure = gateway.spec.infrastructure.as_ref();
        Self {
            uid: gateway.metadata.uid.as_deref().unwrap_or_default().into(),
            class: gateway.spec.gateway_class_name.as_str().into(),
            class_uid: class.and_then(|class| class.metadata.uid.as_deref()).unwrap_or_default().into(),
            labels: infrastructure.and_then(|infrastructure| infrastructure.labels.clone()).unwrap_or_default(),
            annotations: infrastructure.and_then(|infrastructure| infrastructure.annotations.clone()).unwrap_or_default(),
            static_addresses: static_addresses.to_vec(),
            overrides,
            rank: 0,
            ports: BTreeSet::new(),
            states: BTreeMap::new(),
        }
    }

    /// What its Services are made of.
    pub(super) fn facts<'a>(&'a self, name: &'a ObjectName) -> GatewayFacts<'a> {
        GatewayFacts {
            name,
            uid: &self.uid,
            class: &self.class,
            class_uid: &self.class_uid,
            labels: Some(&self.labels),
            annotations: Some(&self.annotations),
            ports: &self.ports,
            static_addresses: &self.static_addresses,
            overrides: self.overrides.as_ref(),
        }
    }

    /// Why a declared port has no socket, if so.
    pub(in crate::translate) fn refusal(&self, port: TransportPort) -> Option<Refusal> {
        match self.states.get(&port) {
            Some(PortState::Internal(_)) | None => None,
            Some(PortState::NotAllocated) => {
                Some(Refusal::new(reason::PENDING, format!("port {port} has no internal port of the gateway's pods yet")))
            }
            Some(PortState::Duplicate { port: internal, owner }) => Some(Refusal::new(
                reason::PORT_UNAVAILABLE,
                format!("port {port}: internal port {internal} also belongs to Gateway {owner}; another one will be allocated"),
            )),
        }
    }

    /// The addresses of the Gateway's Service.
    pub(in crate::translate) fn addresses(
        &self,
        name: &ObjectName,
        observed: &Observed,
        options: &InfrastructureOptions,
    ) -> Result<Reached, Refusal> {
        let overrides = self.overrides.clone().unwrap_or_default();
        let reached = infrastructure::addresses(name, &self.static_addresses, observed, &overrides, options)
            .map_err(|problem| Refusal::new(problem.reason, problem.message))?;
        let status = |address| match address {
            ServiceAddress::Ip(ip) => GatewayAddress { address_type: "IPAddress", value: ip.to_string() },
            ServiceAddress::Hostname(name) => GatewayAddress { address_type: "Hostname", value: name.into() },
        };
        Ok((reached.addresses.into_iter().map(status).collect(), reached.asides))
    }
}
