//! The table of kinds: one row for each kind of object that Clingfish reads.
//!
//! What is watched, discovered, decoded, listed in the rights of the chart and written as a status follows from these rows.

use std::fmt;

/// What the API server and the manifests say of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindFacts {
    /// The kind as written in manifests.
    pub name: &'static str,
    /// Its plural, as in a path of the API server.
    pub plural: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// Versions that have the schema Clingfish reads, the best first.
    pub versions: &'static [&'static str],
    /// Where its objects live.
    pub scope: Scope,
    /// Who defines it.
    pub origin: Origin,
    /// What Clingfish writes into the status of its objects.
    pub status: StatusShape,
}

/// Where the objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster as a whole.
    Cluster,
}

/// Who defines a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Kubernetes itself: every API server has it.
    Kubernetes,
    /// A CustomResourceDefinition: it may be missing.
    Crd,
}

/// What Clingfish writes into the status of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusShape {
    /// Nothing.
    None,
    /// Conditions and supported features of a GatewayClass.
    GatewayClass,
    /// Conditions, addresses and listeners of a Gateway.
    Gateway,
    /// Conditions and listeners of a ListenerSet.
    ListenerSet,
    /// The conditions of each parent of a route.
    Route,
    /// The conditions of a policy at each of its ancestors.
    Policy,
    /// State and reason, as Gloo writes them.
    Gloo,
}

/// Makes the enum, the list of its variants and their rows from one table.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident { $($field:ident: $value:expr),+ $(,)? })+) => {
        /// The closed set of kinds that Clingfish reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
        }

        impl Kind {
            /// All kinds, in order.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The row of the kind.
            pub const fn facts(self) -> &'static KindFacts {
                match self {
                    $(Self::$kind => &KindFacts { $($field: $value),+ },)+
                }
            }
        }
    };
}

/// Group of the kinds of our own.
const CLINGFISH: &str = "clingfish.dev";

/// Group of the Gateway API.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Group of the Gateway API's experiments.
const GATEWAY_API_EXPERIMENTS: &str = "gateway.networking.x-k8s.io";

/// Group of Gloo's options.
const GLOO_GATEWAY: &str = "gateway.solo.io";

kinds! {
    /// `clingfish.dev/v1alpha1` AffinityPolicy.
    AffinityPolicy {
        name: "AffinityPolicy", plural: "affinitypolicies", group: CLINGFISH, versions: &["v1alpha1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Policy,
    }
    /// `clingfish.dev/v1alpha1` AffinitySlots.
    AffinitySlots {
        name: "AffinitySlots", plural: "affinityslots", group: CLINGFISH, versions: &["v1alpha1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::None,
    }
    /// `gateway.networking.k8s.io/v1` BackendTLSPolicy. What is read of it is the same in both versions.
    BackendTlsPolicy {
        name: "BackendTLSPolicy", plural: "backendtlspolicies", group: GATEWAY_API, versions: &["v1", "v1alpha3"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Policy,
    }
    /// `gateway.networking.x-k8s.io/v1alpha1` XBackendTrafficPolicy.
    BackendTrafficPolicy {
        name: "XBackendTrafficPolicy", plural: "xbackendtrafficpolicies", group: GATEWAY_API_EXPERIMENTS, versions: &["v1alpha1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Policy,
    }
    /// `v1` ConfigMap: of one that is referred to, its certificates of authorities.
    ConfigMap {
        name: "ConfigMap", plural: "configmaps", group: "", versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Kubernetes, status: StatusShape::None,
    }
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice {
        name: "EndpointSlice", plural: "endpointslices", group: "discovery.k8s.io", versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Kubernetes, status: StatusShape::None,
    }
    /// `gateway.networking.k8s.io/v1` Gateway.
    Gateway {
        name: "Gateway", plural: "gateways", group: GATEWAY_API, versions: &["v1", "v1beta1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Gateway,
    }
    /// `gateway.networking.k8s.io/v1` GatewayClass.
    GatewayClass {
        name: "GatewayClass", plural: "gatewayclasses", group: GATEWAY_API, versions: &["v1", "v1beta1"],
        scope: Scope::Cluster, origin: Origin::Crd, status: StatusShape::GatewayClass,
    }
    /// `clingfish.dev/v1alpha1` GatewayParameters.
    GatewayParameters {
        name: "GatewayParameters", plural: "gatewayparameters", group: CLINGFISH, versions: &["v1alpha1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::None,
    }
    /// `gateway.networking.k8s.io/v1` GRPCRoute.
    GrpcRoute {
        name: "GRPCRoute", plural: "grpcroutes", group: GATEWAY_API, versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Route,
    }
    /// `gateway.solo.io/v1` HttpListenerOption.
    HttpListenerOption {
        name: "HttpListenerOption", plural: "httplisteneroptions", group: GLOO_GATEWAY, versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::None,
    }
    /// `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute {
        name: "HTTPRoute", plural: "httproutes", group: GATEWAY_API, versions: &["v1", "v1beta1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Route,
    }
    /// `gateway.solo.io/v1` ListenerOption.
    ListenerOption {
        name: "ListenerOption", plural: "listeneroptions", group: GLOO_GATEWAY, versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::None,
    }
    /// `gateway.networking.k8s.io/v1` ListenerSet.
    ListenerSet {
        name: "ListenerSet", plural: "listenersets", group: GATEWAY_API, versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::ListenerSet,
    }
    /// `v1` Namespace.
    Namespace {
        name: "Namespace", plural: "namespaces", group: "", versions: &["v1"],
        scope: Scope::Cluster, origin: Origin::Kubernetes, status: StatusShape::None,
    }
    /// `gateway.networking.k8s.io` ReferenceGrant. Its versions differ in nothing; the oldest one is still around in manifests.
    ReferenceGrant {
        name: "ReferenceGrant", plural: "referencegrants", group: GATEWAY_API, versions: &["v1", "v1beta1", "v1alpha2"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::None,
    }
    /// `gateway.solo.io/v1` RouteOption.
    RouteOption {
        name: "RouteOption", plural: "routeoptions", group: GLOO_GATEWAY, versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Gloo,
    }
    /// `v1` Secret.
    Secret {
        name: "Secret", plural: "secrets", group: "", versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Kubernetes, status: StatusShape::None,
    }
    /// `v1` Service.
    Service {
        name: "Service", plural: "services", group: "", versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Kubernetes, status: StatusShape::None,
    }
    /// `gateway.networking.k8s.io` TCPRoute. Its versions differ in nothing.
    TcpRoute {
        name: "TCPRoute", plural: "tcproutes", group: GATEWAY_API, versions: &["v1", "v1alpha2"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Route,
    }
    /// `gateway.networking.k8s.io` TLSRoute. What is read of it is the same in all versions.
    TlsRoute {
        name: "TLSRoute", plural: "tlsroutes", group: GATEWAY_API, versions: &["v1", "v1alpha3", "v1alpha2"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Route,
    }
    /// `gateway.networking.k8s.io` UDPRoute. Its versions differ in nothing.
    UdpRoute {
        name: "UDPRoute", plural: "udproutes", group: GATEWAY_API, versions: &["v1", "v1alpha2"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Route,
    }
    /// `gloo.solo.io/v1` Upstream.
    Upstream {
        name: "Upstream", plural: "upstreams", group: "gloo.solo.io", versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::Gloo,
    }
    /// `gateway.solo.io/v1` VirtualHostOption.
    VirtualHostOption {
        name: "VirtualHostOption", plural: "virtualhostoptions", group: GLOO_GATEWAY, versions: &["v1"],
        scope: Scope::Namespaced, origin: Origin::Crd, status: StatusShape::None,
    }
}

// === impl Kind ===

impl Kind {
    /// Gloo's kinds whose options are for all that a Gateway, or one of its listeners, serves.
    pub const GATEWAY_OPTIONS: [Self; 3] = [Self::HttpListenerOption, Self::ListenerOption, Self::VirtualHostOption];

    /// The kind as written in manifests.
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// The API group of the kind; empty for the core group.
    pub const fn group(self) -> &'static str {
        self.facts().group
    }

    /// Whether objects of the kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        self.facts().scope == Scope::Namespaced
    }

    /// Whether its objects are read by name, those alone that are referred to: nobody need grant the reading of all.
    pub fn is_read_by_name(self) -> bool {
        matches!(self, Self::ConfigMap | Self::Secret)
    }

    /// Whether it is a kind of route.
    pub fn is_route(self) -> bool {
        self.facts().status == StatusShape::Route
    }

    /// Whether it is a kind of route for connections or flows of datagrams rather than requests.
    pub fn is_stream_route(self) -> bool {
        matches!(self, Self::TcpRoute | Self::TlsRoute | Self::UdpRoute)
    }

    /// Whether it is one of Gloo's kinds that only guard Gateways here.
    pub fn is_gateway_option(self) -> bool {
        Self::GATEWAY_OPTIONS.contains(&self)
    }

    /// Whether Clingfish reads objects of the kind in this version.
    pub fn is_read_in(self, version: &str) -> bool {
        self.facts().versions.contains(&version)
    }

    /// The kind with this group and name as written in manifests, if Clingfish reads it.
    pub fn from_group_kind(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.group() == group && k.as_str() == kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_kind_is_found_by_its_group_and_name_and_each_has_a_version() {
        for kind in Kind::ALL.iter().copied() {
            assert_eq!(Kind::from_group_kind(kind.group(), kind.as_str()), Some(kind));
            assert!(!kind.facts().versions.is_empty(), "{kind}");
            assert_eq!(kind.facts().plural, kind.facts().plural.to_ascii_lowercase(), "{kind}");
        }
        let plurals: BTreeSet<_> = Kind::ALL.iter().map(|kind| (kind.group(), kind.facts().plural)).collect();
        assert_eq!(plurals.len(), Kind::ALL.len());
        assert_eq!(Kind::from_group_kind("", "Gateway"), None);
    }
}
