//! The options of translation, from the command line.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use http::HeaderValue;

use crate::snapshot::{HeadersWithUnderscores, PathNormalization};
use crate::translate::gateway::infrastructure::InfrastructureOptions;

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
    /// What is done to paths before they are matched.
    pub path: PathNormalization,
    /// What becomes of headers whose names have underscores.
    pub headers_with_underscores: HeadersWithUnderscores,
    /// What becomes of a hostname that routes of several namespaces claim on one listener.
    pub hostname_ownership: HostnameOwnership,
    /// What objects may take together.
    pub limits: Limits,
    /// Last good versions are kept beyond the process.
    pub keeps_last_good: bool,
    /// The system that serves has certificates of authorities (`wellKnownCACertificates: System`).
    pub has_system_authorities: bool,
    /// In a cluster: every Gateway has Services and internal ports of its own. `None`: sockets are what the Gateway declares.
    pub infrastructure: Option<Arc<InfrastructureOptions>>,
}

/// What becomes of a hostname that routes of several namespaces claim on one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostnameOwnership {
    /// All of them serve it, by the precedence of Gateway API; a notice says so.
    #[default]
    Any,
    /// Only those of the namespace whose route is the oldest; the others are refused for this hostname.
    FirstNamespace,
}

/// What objects may take together, so that no writer of objects can stall or fill a gateway that others share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Points of all rings together.
    pub ring_points: u64,
    /// Points of a single ring.
    pub points_of_one_ring: u64,
    /// Points and slots of the hash tables that one translation builds itself. What is beyond is built by somebody else, who delays nobody.
    pub table_entries_at_once: u64,
    /// Price of all regular expressions together (`Pattern::price`, about bytes).
    pub pattern_price: u64,
    /// Matches that are tried one after another: of one hostname those of one exact path, of one prefix, or all regular expressions of paths.
    pub matches_per_path: usize,
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

// === impl Limits ===

impl Default for Limits {
    /// 8 Mi ring points (some 100 MB), tables of some 3 ms at once, regular expressions of some 32 MiB, 512 matches a path.
    fn default() -> Self {
        Self {
            ring_points: 8 << 20,
            points_of_one_ring: 1 << 20,
            table_entries_at_once: 2 * 65_537,
            pattern_price: 32 << 20,
            matches_per_path: 512,
        }
    }
}

impl Limits {
    /// The same, but with so many points of all rings, of which a single one may have an eighth.
    #[must_use]
    pub fn with_ring_points(self, ring_points: u64) -> Self {
        Self { ring_points, points_of_one_ring: ring_points / 8, ..self }
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
            path: PathNormalization::default(),
            headers_with_underscores: HeadersWithUnderscores::default(),
            hostname_ownership: HostnameOwnership::Any,
            limits: Limits::default(),
            keeps_last_good: false,
            has_system_authorities: true,
            infrastructure: None,
        }
    }
}

impl Options {
    /// What `validate` looks at a directory with: each Gateway has addresses of its own, as in a cluster, and nothing is bound. Who may refer to
    /// what is for its flags to say.
    pub fn validate() -> Self {
        Self { shared_ports: false, assume_bound: true, assumed_classes: AssumedClasses::Any, ..Self::default() }
    }

    /// Whether what is said to the owner of an object may name objects of other namespaces: where its Upstreams may use them anyway.
    pub(super) fn tells_of_other_namespaces(&self) -> bool {
        self.cross_namespace == CrossNamespace::Any
    }
}

/// Key of ours in Gloo's `status.statuses`: with the Gloo switch the one that Gloo's tools look for, else one that no other install writes.
pub fn status_key(gloo: bool, install_namespace: &str, controller_name: &str) -> Box<str> {
    match controller_name {
        _ if gloo => install_namespace.into(),
        CONTROLLER_NAME => "clingfish".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_with_controller_names_of_their_own_have_status_keys_of_their_own() {
        assert_eq!(&*status_key(false, "clingfish-system", CONTROLLER_NAME), "clingfish");
        assert_eq!(&*status_key(false, "clingfish-system", "example.com/edge"), "example.com/edge");
        assert_eq!(&*status_key(true, "gloo-system", CONTROLLER_NAME), "gloo-system");
    }
}
