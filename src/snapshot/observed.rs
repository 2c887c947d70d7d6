//! What is observed and not declared: sockets, addresses, Services.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::base::{AffinityKeys, Message, ObjectName, ObjectRef};
use crate::lb::SlotMap;

use super::transport::{BindAddress, TransportPort};

/// Everything that translation reads beside the declared resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Sockets that the workers report. An address that is absent was not tried yet.
    pub bound: BTreeMap<BindAddress, BindState>,
    /// Addresses of DNS names that static Upstreams use; absent: not resolved yet.
    pub dns: BTreeMap<Box<str>, Arc<[IpAddr]>>,
    /// The machine has an IPv6 address that is neither loopback nor link-local: IPv6 endpoints are reachable.
    pub ipv6: bool,
    /// Whole hours since the epoch, as the clock was last looked at; `None`: nothing is said of certificates that expire.
    pub hour: Option<i64>,
    /// Seconds since the epoch, as the clock was last looked at: hosts warm up, and pods wait for slots. `None`: nobody does.
    pub second: Option<u64>,
    /// Maps of slots that serve, as the last translation had them, where they are ahead of the stored ones: pods have come and gone, and
    /// nobody has written yet who inherits which slot. Pods that come later find them so, and no heir loses its slot again.
    pub advanced_slots: Arc<BTreeMap<ObjectRef, SlotMap>>,
    /// In a cluster: the internal ports, as the leader dealt them out.
    pub ports: BTreeMap<GatewayPort, u16>,
    /// In a cluster: the internal ports on which this process serves, as its last translation had them.
    pub held_ports: BTreeMap<GatewayPort, u16>,
    /// In a cluster: Services with names like those in front of Gateways, also if somebody else made them.
    pub services: BTreeMap<ObjectName, ObservedService>,
    /// In a cluster, in the leader: why Services could not be written.
    pub refused_services: BTreeMap<ObjectName, Message>,
    /// In a cluster, in the leader: why maps of slots could not be written.
    pub refused_slots: BTreeMap<ObjectName, Message>,
    /// In a cluster, in the leader: whether the other replicas have the same hash tables; `None`: they were not compared yet.
    pub agreement: Option<Agreement>,
    /// In a cluster: where the ports of NodePort Services are reached; empty: nodes are not looked at.
    pub node_addresses: Vec<IpAddr>,
    /// In a cluster: `gateway.networking.k8s.io/bundle-version` of the installed CRDs; `None` where it could not be read.
    pub gateway_api_version: Option<Box<str>>,
    /// What tags of hosts are made with; `None`: no session is held on its host.
    pub affinity_keys: Option<Arc<AffinityKeys>>,
}

/// Whether replicas have the same hash tables, as the leader has found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// There is another replica.
    pub compared: bool,
    /// Tables that differ for longer than a change takes, by `backend_digest`: in which replicas, and since when, in seconds since the epoch.
    pub disagreements: BTreeMap<u64, BTreeMap<IpAddr, u64>>,
}

/// A port that a Gateway's listeners declare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayPort {
    /// UID of the Gateway: another Gateway of the same name is another Gateway.
    pub uid: Box<str>,
    /// The declared port.
    pub port: TransportPort,
}

/// A Service that stands in front of a Gateway, or in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedService {
    /// The Gateway it was made for; `None`: it was not made by this install.
    pub gateway: Option<ObjectName>,
    /// Where clients reach it: what the load balancer reports, for other types the cluster IPs.
    pub addresses: Vec<ServiceAddress>,
    /// It is being deleted: its address is about to go.
    pub deleting: bool,
    /// Ports that it has, each with the port of the gateway's pods to which it leads; 0: to none.
    pub ports: BTreeMap<TransportPort, u16>,
    /// It gives the Service with the address a second name.
    pub is_alias: bool,
    /// `spec.type`.
    pub service_type: ObservedServiceType,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<Box<str>>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// That class was asked for by us.
    pub class_is_ours: bool,
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum ObservedServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// An address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name.
    Hostname(Box<str>),
}

/// What became of binding a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindState {
    /// All workers listen on it.
    Bound,
    /// It cannot be bound; the system's words.
    Failed(Box<str>),
    /// Its IP address is none of this machine's; the system's words.
    NoAddress(Box<str>),
}
