//! What translation is told by the command line.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use http::HeaderValue;

use super::infrastructure::InfrastructureOptions;

/// Immutable options of translation.
#[derive(Clone, Debug)]
pub struct Options {
    /// `spec.controllerName` of our classes.
    pub controller_name: Box<str>,
    /// Every GatewayClass is ours whatever its controllerName (`standalone`, `demo`: there is no other controller).
    pub any_controller: bool,
    /// Which GatewayClasses that are not there are taken to be ours, with a notice: manifests are what people keep under version control, and
    /// the class comes with the chart.
    pub assumed_classes: AssumedClasses,
    /// Address of listeners whose Gateway has no `spec.addresses`.
    pub bind: IpAddr,
    /// Gateways share the machine's ports: of two on one address and port the older wins (`standalone`). Else each has its own.
    pub shared_ports: bool,
    /// Report as if every socket could be bound: nothing listens (`validate`, `explain --manifests`, goldens).
    pub assume_bound: bool,
    /// Endpoints on loopback or link-local addresses are served (`standalone`, `demo`); `run` refuses them.
    pub allow_local_endpoints: bool,
    /// Addresses of this pod: nothing is sent there.
    pub own_addresses: [Option<IpAddr>; 2],
    /// Whether an Upstream may name a Service of another namespace.
    pub cross_namespace: CrossNamespace,
    /// Key of ours in Gloo's `status.statuses`.
    pub status_key: Box<str>,
    /// Overrides the class's profile.
    pub use_remote_address: UseRemoteAddress,
    /// Envoy's `xff_num_trusted_hops`.
    pub xff_num_trusted_hops: u32,
    /// Overrides the class's `server` header.
    pub server_header: Option<HeaderValue>,
    /// In a cluster: every Gateway has Services and internal ports of its own. `None`: sockets are what the Gateway declares.
    pub infrastructure: Option<Arc<InfrastructureOptions>>,
}

/// Whether an Upstream may name a Service of another namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrossNamespace {
    /// Upstreams of this namespace may; elsewhere a ReferenceGrant from Upstream to Service is needed.
    ReleaseNamespace(Box<str>),
    /// A ReferenceGrant is always needed.
    Grant,
    /// Any Upstream may, as in Gloo.
    Any,
}

/// Envoy's `use_remote_address`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UseRemoteAddress {
    /// `false` for class `gloo-gateway`, `true` for any other.
    #[default]
    ByClass,
    /// The same for all classes.
    Always(bool),
}

/// `spec.controllerName` of our classes unless the chart says otherwise.
pub const CONTROLLER_NAME: &str = "clingfish.dev/gateway-controller";

/// Name of the class that the chart makes unless told otherwise.
const OUR_CLASS: &str = "clingfish";

/// Name of the class that behaves as Gloo Gateway does (client address, `server` header).
pub const GLOO_CLASS: &str = "gloo-gateway";

/// Which GatewayClasses that are not there are taken to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssumedClasses {
    /// None: in a cluster everything is seen (`run`).
    None,
    /// Those that the chart makes: what other controllers serve must not take a port here (`standalone`, `demo`, `explain`, `simulate`).
    OfTheChart,
    /// Any: nothing is served (`validate`).
    Any,
}

// === impl AssumedClasses ===

impl AssumedClasses {
    /// Whether a class of this name that is not there is taken to be ours.
    pub(super) fn contains(self, class: &str) -> bool {
        match self {
            Self::None => false,
            Self::OfTheChart => class == OUR_CLASS || class == GLOO_CLASS,
            Self::Any => true,
        }
    }
}

// === impl Options ===

impl Default for Options {
    /// The options of `standalone`: any controller, shared ports on all IPv4 addresses.
    fn default() -> Self {
        Self {
            controller_name: CONTROLLER_NAME.into(),
            any_controller: true,
            assumed_classes: AssumedClasses::OfTheChart,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            shared_ports: true,
            assume_bound: false,
            allow_local_endpoints: true,
            own_addresses: [None; 2],
            cross_namespace: CrossNamespace::Any,
            status_key: "clingfish".into(),
            use_remote_address: UseRemoteAddress::ByClass,
            xff_num_trusted_hops: 0,
            server_header: None,
            infrastructure: None,
        }
    }
}

impl Options {
    /// The options of `validate`: it answers for a cluster, where each Gateway has addresses of its own, and nothing is bound.
    pub fn validate() -> Self {
        Self { shared_ports: false, assume_bound: true, assumed_classes: AssumedClasses::Any, ..Self::default() }
    }
}
