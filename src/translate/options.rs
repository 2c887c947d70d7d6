//! What translation is told by the command line.

use std::net::IpAddr;

use http::HeaderValue;

/// Immutable options of translation.
#[derive(Clone, Debug)]
pub struct Options {
    /// `spec.controllerName` of our classes.
    pub controller_name: Box<str>,
    /// Every GatewayClass is ours whatever its controllerName (`standalone`, `demo`: there is no other controller).
    pub any_controller: bool,
    /// Address of listeners whose Gateway has no `spec.addresses`.
    pub bind: IpAddr,
    /// Gateways share the machine's ports: of two on one address and port the older wins (`standalone`). Else each has its own.
    pub shared_ports: bool,
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
