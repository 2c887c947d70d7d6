//! Names of Kubernetes objects.

use std::fmt;

use super::text::word;

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Namespace, empty for cluster-scoped kinds.
    pub namespace: Box<str>,
    /// Name within the namespace.
    pub name: Box<str>,
}

/// The closed set of kinds that Clingfish reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `gateway.networking.k8s.io/v1` Gateway.
    Gateway,
    /// `gateway.networking.k8s.io/v1` GatewayClass.
    GatewayClass,
    /// `clingfish.dev/v1alpha1` GatewayParameters.
    GatewayParameters,
    /// `gateway.solo.io/v1` HttpListenerOption.
    HttpListenerOption,
    /// `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute,
    /// `gateway.solo.io/v1` ListenerOption.
    ListenerOption,
    /// `v1` Namespace.
    Namespace,
    /// `gateway.networking.k8s.io/v1`, `v1beta1` and `v1alpha2` ReferenceGrant.
    ReferenceGrant,
    /// `gateway.solo.io/v1` RouteOption.
    RouteOption,
    /// `v1` Secret.
    Secret,
    /// `v1` Service.
    Service,
    /// `gloo.solo.io/v1` Upstream.
    Upstream,
    /// `gateway.solo.io/v1` VirtualHostOption.
    VirtualHostOption,
}

/// Kind, namespace and name: what a message, a status or a dependency points at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace and name of the object.
    pub name: ObjectName,
}

// === impl ObjectName ===

impl ObjectName {
    /// A namespaced name; pass an empty namespace for cluster-scoped kinds.
    pub fn new(namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    /// Names in references are foreign text: nobody has checked them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.namespace, &*self.name) {
            ("", "") => Ok(()),
            ("", name) => word(name).fmt(f),
            (namespace, name) => write!(f, "{}/{}", word(namespace), word(name)),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 14] = [
        Self::EndpointSlice,
        Self::Gateway,
        Self::GatewayClass,
        Self::GatewayParameters,
        Self::HttpListenerOption,
        Self::HttpRoute,
        Self::ListenerOption,
        Self::Namespace,
        Self::ReferenceGrant,
        Self::RouteOption,
        Self::Secret,
        Self::Service,
        Self::Upstream,
        Self::VirtualHostOption,
    ];

    /// Gloo's kinds whose options are for all that a Gateway, or one of its listeners, serves.
    pub const GATEWAY_OPTIONS: [Self; 3] = [Self::HttpListenerOption, Self::ListenerOption, Self::VirtualHostOption];

    /// The kind as written in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndpointSlice => "EndpointSlice",
            Self::Gateway => "Gateway",
            Self::GatewayClass => "GatewayClass",
            Self::GatewayParameters => "GatewayParameters",
            Self::HttpListenerOption => "HttpListenerOption",
            Self::HttpRoute => "HTTPRoute",
            Self::ListenerOption => "ListenerOption",
            Self::Namespace => "Namespace",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::RouteOption => "RouteOption",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::Upstream => "Upstream",
            Self::VirtualHostOption => "VirtualHostOption",
        }
    }

    /// The API group of the kind; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Gateway | Self::GatewayClass | Self::HttpRoute | Self::ReferenceGrant => "gateway.networking.k8s.io",
            Self::Namespace | Self::Secret | Self::Service => "",
            Self::HttpListenerOption | Self::ListenerOption | Self::RouteOption | Self::VirtualHostOption => "gateway.solo.io",
            Self::Upstream => "gloo.solo.io",
            Self::GatewayParameters => "clingfish.dev",
        }
    }

    /// Whether objects of the kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::GatewayClass | Self::Namespace)
    }

    /// The kind with this group and name as written in manifests, if Clingfish reads it.
    pub fn from_group_kind(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.group() == group && k.as_str() == kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ObjectRef ===

impl ObjectRef {
    /// A reference to the object of this kind and name.
    pub fn new(kind: Kind, namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { kind, name: ObjectName::new(namespace, name) }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}
