//! In a cluster: the Services and internal ports that ought to exist, and what a Gateway's status says about them.
//!
//! Every Gateway has a Service in the install namespace, whose selector matches the gateway's pods. A Gateway of another namespace also has
//! an ExternalName Service there, which points to the first one. A port is first allocated, then bound, then in the Service, then in the
//! status.

mod assigned;
mod names;
mod options;
mod overrides;
mod ports;
mod reached;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::Serialize;

use crate::base::ObjectName;
use crate::snapshot::{BindAddress, BindState, GatewayPort, Observed, TransportPort};

pub use assigned::{PortState, port_states};
pub use options::{ExternalTrafficPolicy, InfrastructureOptions, IpFamilyPolicy, ServiceType};
pub use overrides::ServiceOverrides;
pub use ports::{INTERNAL_PORTS, LedPorts, PortTable, REST_SECONDS, WantedPort, allocate};
pub use reached::{AddressProblem, Reached, addresses, is_on_its_way};

/// Label of what belongs to a Gateway, by GEP-1762.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// Annotation of our Services: namespace and name of the Gateway.
pub const GATEWAY_ANNOTATION: &str = "clingfish.dev/gateway";

/// Annotation of our Services: GatewayClass of the Gateway.
pub const CLASS_ANNOTATION: &str = "clingfish.dev/gateway-class";

/// Annotation of our Services: namespace and name of the install that made them. Without it a Service is not ours.
pub const INSTALL_ANNOTATION: &str = "clingfish.dev/install";

/// Annotation of a Service of ours that only gives the one with the address a second name: that one's name.
pub const ALIAS_ANNOTATION: &str = "clingfish.dev/alias-of";

/// Annotations of external-dns, which publishes the name of an ExternalName Service: `external-dns.alpha.kubernetes.io/`, and
/// `external-dns.kubernetes.io/` since its version 0.22.
const EXTERNAL_DNS: &str = "external-dns.";

/// Bound of a label's value.
const MAX_LABEL: usize = 63;

/// What is known of a Gateway that needs Services.
#[derive(Clone, Copy, Debug)]
pub struct GatewayFacts<'a> {
    /// Namespace and name.
    pub name: &'a ObjectName,
    /// UID.
    pub uid: &'a str,
    /// Name of its GatewayClass.
    pub class: &'a str,
    /// UID of its GatewayClass.
    pub class_uid: &'a str,
    /// `spec.infrastructure.labels`.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// `spec.infrastructure.annotations`.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// Ports of its valid listeners.
    pub ports: &'a BTreeSet<TransportPort>,
    /// The IP addresses of `spec.addresses`.
    pub static_addresses: &'a [IpAddr],
    /// What its own parameters say; `None`: they cannot be used, and its Services stay as they are.
    pub overrides: Option<&'a Arc<ServiceOverrides>>,
}

/// What ought to exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Infrastructure {
    /// Ports that need an internal port; the oldest Gateway first.
    pub ports: Vec<WantedPort>,
    /// Internal ports to which Services of ours lead.
    pub led: LedPorts,
    /// Services by namespace and name.
    pub services: BTreeMap<ObjectName, DesiredService>,
    /// GatewayClasses of ours.
    pub classes: BTreeSet<Box<str>>,
    /// Those that Gateways name.
    pub used_classes: BTreeSet<Box<str>>,
    /// Gateways with a port that is not bound yet, or without a port that could be, or whose parameters cannot be used: their Services are left
    /// as they are.
    pub pending: BTreeSet<ObjectName>,
}

/// A Service that ought to exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredService {
    /// The Gateway it is for.
    #[serde(serialize_with = "as_text")]
    pub gateway: ObjectName,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Where it leads.
    pub target: ServiceTarget,
    /// Declared port and internal port.
    pub ports: BTreeMap<TransportPort, u16>,
    /// What stands in the place of the chart's values.
    #[serde(skip)]
    pub overrides: Arc<ServiceOverrides>,
}

/// Where a Service leads, and who owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceTarget {
    /// To the gateway's pods; owned by the chart's ConfigMap.
    Pods {
        /// The address asked of the load balancer.
        #[serde(skip_serializing_if = "Option::is_none")]
        load_balancer_ip: Option<IpAddr>,
    },
    /// To the gateway's pods, without an address of its own: a second name of the Service that has one.
    Alias,
    /// To the Service of this DNS name; owned by the GatewayClass, which the chart owns and which, unlike the Deployment, may own things in
    /// all namespaces.
    Name {
        /// DNS name.
        name: String,
        /// Name of the GatewayClass.
        class: String,
        /// UID of the GatewayClass.
        class_uid: String,
    },
}

/// Whether the Service with the Gateway's address stands.
pub fn stands(gateway: &ObjectName, observed: &Observed, options: &InfrastructureOptions) -> bool {
    let service = observed.services.get(&names::selector_service(gateway, observed, options));
    service.is_some_and(|service| !service.deleting && service.gateway.as_ref() == Some(gateway))
}

/// Whether a Service of this name could be one of those in front of Gateways: only these need to be observed.
pub fn is_candidate(service: &ObjectName) -> bool {
    names::is_candidate(service)
}

fn as_text<S: serde::Serializer>(name: &ObjectName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// What ought to exist for these Gateways, the oldest first; `bind` is the address at which the pods listen.
pub fn desired<'a>(
    gateways: impl IntoIterator<Item = GatewayFacts<'a>>,
    bind: IpAddr,
    observed: &Observed,
    options: &InfrastructureOptions,
) -> Infrastructure {
    let gateways: Vec<_> = gateways.into_iter().collect();
    let mut result = Infrastructure {
        ports: gateways.iter().flat_map(wanted_ports).collect(),
        led: assigned::led_ports(observed),
        ..Infrastructure::default()
    };
    let states = port_states(&result.ports, observed, options);
    for wanted in &mut result.ports {
        wanted.assigned = states.get(&wanted.key).and_then(PortState::internal);
    }
    for gateway in &gateways {
        match (service_ports(gateway, &states, bind, observed), gateway.overrides) {
            (Some(ports), Some(overrides)) => result.services.extend(services(gateway, ports, overrides, observed, options)),
            _ => drop(result.pending.insert(gateway.name.clone())),
        }
    }
    result
}

/// The ports of a Gateway that need an internal port.
pub fn wanted_ports(gateway: &GatewayFacts<'_>) -> Vec<WantedPort> {
    let wanted = |port: &TransportPort| WantedPort {
        key: GatewayPort { uid: gateway.uid.into(), port: *port },
        gateway: gateway.name.clone(),
        assigned: None,
    };
    gateway.ports.iter().map(wanted).collect()
}

/// The ports that serve; `None` as long as one is still to be bound, or where none could be.
fn service_ports(
    gateway: &GatewayFacts<'_>,
    states: &BTreeMap<GatewayPort, PortState>,
    bind: IpAddr,
    observed: &Observed,
) -> Option<BTreeMap<TransportPort, u16>> {
    let mut ports = BTreeMap::new();
    for port in gateway.ports {
        let key = GatewayPort { uid: gateway.uid.into(), port: *port };
        match states.get(&key) {
            None | Some(PortState::NotAllocated) => return None,
            Some(PortState::Duplicate { .. }) => {}
            Some(PortState::Internal(internal)) => match observed.bound.get(&bound_to(bind, *port, *internal)) {
                None => return None,
                Some(BindState::Failed(_) | BindState::NoAddress(_)) => {}
                Some(BindState::Bound) => drop(ports.insert(*port, *internal)),
            },
        }
    }
    (!ports.is_empty()).then_some(ports)
}

/// What is bound for the port of a Gateway.
fn bound_to(ip: IpAddr, port: TransportPort, internal: u16) -> BindAddress {
    BindAddress { address: SocketAddr::new(ip, internal), transport: port.transport }
}

fn services(
    gateway: &GatewayFacts<'_>,
    ports: BTreeMap<TransportPort, u16>,
    overrides: &Arc<ServiceOverrides>,
    observed: &Observed,
    options: &InfrastructureOptions,
) -> Vec<(ObjectName, DesiredService)> {
    let options = &*overrides.over(options);
    let selector = names::selector_service(gateway.name, observed, options);
    let dns_name = format!("{}.{}.svc.{}", selector.name, selector.namespace, options.cluster_domain);
    let load_balancer_ip = gateway.static_addresses.first().copied().filter(|_| options.service_type == ServiceType::LoadBalancer);
    let service = |target, of_chart: [&BTreeMap<String, String>; 2]| DesiredService {
        gateway: gateway.name.clone(),
        labels: labels(gateway, of_chart[0]),
        annotations: annotations(gateway, of_chart[1], options),
        target,
        ports: ports.clone(),
        overrides: Arc::clone(overrides),
    };
    // The name is the cluster's own: nobody outside may learn it.
    let inner = |target| {
        let mut inner = service(target, [&BTreeMap::new(); 2]);
        inner.annotations.retain(|key, _| !key.starts_with(EXTERNAL_DNS));
        inner
    };
    let mut services = Vec::new();
    if let Some(name) = names::alias_service(gateway.name, observed, options) {
        let mut alias = inner(ServiceTarget::Alias);
        alias.annotations.insert(ALIAS_ANNOTATION.into(), selector.name.to_string());
        services.push((name, alias));
    }
    services.push((selector, service(ServiceTarget::Pods { load_balancer_ip }, [&options.labels, &options.annotations])));
    if let Some(neighbour) = names::neighbour_service(gateway.name, options) {
        let target = ServiceTarget::Name { name: dns_name, class: gateway.class.into(), class_uid: gateway.class_uid.into() };
        services.push((neighbour, inner(target)));
    }
    services
}

fn labels(gateway: &GatewayFacts<'_>, of_chart: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = of_chart.clone();
    labels.extend(gateway.labels.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    labels.insert("app.kubernetes.io/managed-by".into(), "clingfish".into());
    labels.insert(GATEWAY_NAME_LABEL.into(), label_value(&gateway.name.name));
    labels
}

fn annotations(
    gateway: &GatewayFacts<'_>,
    of_chart: &BTreeMap<String, String>,
    options: &InfrastructureOptions,
) -> BTreeMap<String, String> {
    let mut annotations = of_chart.clone();
    annotations.extend(gateway.annotations.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    annotations.insert(GATEWAY_ANNOTATION.into(), gateway.name.to_string());
    annotations.insert(CLASS_ANNOTATION.into(), gateway.class.to_owned());
    annotations.insert(INSTALL_ANNOTATION.into(), options.install());
    annotations
}

/// A Gateway's name as a label: names may be longer than labels.
fn label_value(name: &str) -> String {
    if name.len() <= MAX_LABEL {
        return name.to_owned();
    }
    let hash = format!("-{:016x}", xxhash_rust::xxh64::xxh64(name.as_bytes(), 0));
    let kept: String = name.chars().take(MAX_LABEL - hash.len()).collect();
    format!("{}{hash}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests;
