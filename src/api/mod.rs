//! The types of objects, as their owners define them: Gateway API, core Kubernetes, Gloo.

mod checks;
mod crd;
mod decode;
mod gloo;
mod outline;
mod parameters;
mod secret;

use std::collections::BTreeMap;

use gateway_api::experimental::{gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute, referencegrants::ReferenceGrant};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::base::{Kind, ObjectName, ObjectRef};

pub use decode::{DecodeError, Document, decode, decode_manifest};
pub use gloo::{
    CircuitBreakerConfig, ConnectionConfig, Cookie, CrdError, Empty, GatewayOption, GatewayOptionSpec, GlooStatusMap, GoDuration,
    HashPolicy, HeaderManipulation, HeaderToAdd, HeaderValueOption, HttpProtocolOptions, KubeUpstream, LbHash, LeastRequest,
    LoadBalancerConfig, RegexPattern, RegexRewrite, Retries, RetryBackOff, RingHash, RingHashConfig, RouteOption, RouteOptionSpec,
    RouteOptions, StaticHost, StaticUpstream, TargetRef, Uint, Unmodelled, Upstream, UpstreamSpec, VERSION_ANNOTATION, crd_documents,
    crd_values, crds_yaml,
};
pub use parameters::{GatewayParameters, GatewayParametersSpec, NodePort, ServiceParameters};

/// A decoded object of a kind that Clingfish reads.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is the kind of its name, or one of Gloo's that target Gateways")]
pub enum Object {
    EndpointSlice(EndpointSlice),
    Gateway(Gateway),
    GatewayClass(GatewayClass),
    GatewayParameters(GatewayParameters),
    GatewayOption(GatewayOption),
    HttpRoute(HttpRoute),
    Namespace(Namespace),
    ReferenceGrant(ReferenceGrant),
    RouteOption(RouteOption),
    Secret(Secret),
    Service(Service),
    Upstream(Upstream),
}

impl Object {
    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Gateway(_) => Kind::Gateway,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::GatewayParameters(_) => Kind::GatewayParameters,
            Self::GatewayOption(object) => object.kind,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::Namespace(_) => Kind::Namespace,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::RouteOption(_) => Kind::RouteOption,
            Self::Secret(_) => Kind::Secret,
            Self::Service(_) => Kind::Service,
            Self::Upstream(_) => Kind::Upstream,
        }
    }

    /// The object's `metadata`.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::EndpointSlice(object) => &object.metadata,
            Self::Gateway(object) => &object.metadata,
            Self::GatewayClass(object) => &object.metadata,
            Self::GatewayParameters(object) => &object.metadata,
            Self::GatewayOption(object) => &object.metadata,
            Self::HttpRoute(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
            Self::RouteOption(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::Upstream(object) => &object.metadata,
        }
    }

    /// Kind, namespace and name.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef { kind: self.kind(), name: object_name(self.metadata()) }
    }

    /// `metadata.generation`; absent in a directory of manifests.
    pub fn generation(&self) -> Option<i64> {
        self.metadata().generation
    }

    /// `metadata.creationTimestamp`; `None` counts as the oldest and sorts first.
    pub fn creation_timestamp(&self) -> Option<jiff::Timestamp> {
        creation_timestamp(self.metadata())
    }

    /// `metadata.labels`.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata().labels.as_ref()
    }

    /// `metadata.annotations`.
    pub fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata().annotations.as_ref()
    }
}

/// Namespace and name in a `metadata`.
pub fn object_name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// `metadata.creationTimestamp`; `None` counts as the oldest and sorts first.
pub fn creation_timestamp(metadata: &ObjectMeta) -> Option<jiff::Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}
