//! A decoded object of any kind, and what all kinds have.

use std::collections::BTreeMap;

use gateway_api::{
    backendtlspolicies::BackendTlsPolicy,
    experimental::{gatewayclasses::GatewayClass, gateways::Gateway, referencegrants::ReferenceGrant},
};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::base::{Kind, ObjectRef};

use super::{
    affinity::AffinityPolicy,
    affinity_slots::AffinitySlots,
    backend_traffic_policy::BackendTrafficPolicy,
    gloo::{GatewayOption, RouteOption, Upstream},
    listener_set::ListenerSet,
    metadata::{creation_timestamp, object_name},
    parameters::GatewayParameters,
    route::Route,
};

/// A decoded object of a kind that Clingfish reads.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is the kind of its name; routes are of any kind, and so are Gloo's options for Gateways")]
pub enum Object {
    AffinityPolicy(Box<AffinityPolicy>),
    AffinitySlots(AffinitySlots),
    BackendTlsPolicy(BackendTlsPolicy),
    BackendTrafficPolicy(BackendTrafficPolicy),
    ConfigMap(ConfigMap),
    EndpointSlice(EndpointSlice),
    Gateway(Gateway),
    GatewayClass(GatewayClass),
    GatewayParameters(GatewayParameters),
    GatewayOption(GatewayOption),
    ListenerSet(ListenerSet),
    Namespace(Namespace),
    ReferenceGrant(ReferenceGrant),
    Route(Route),
    RouteOption(RouteOption),
    Secret(Secret),
    Service(Service),
    Upstream(Upstream),
}

impl Object {
    /// Its kind and its `metadata`.
    fn head(&self) -> (Kind, &ObjectMeta) {
        match self {
            Self::AffinityPolicy(object) => (Kind::AffinityPolicy, &object.metadata),
            Self::AffinitySlots(object) => (Kind::AffinitySlots, &object.metadata),
            Self::BackendTlsPolicy(object) => (Kind::BackendTlsPolicy, &object.metadata),
            Self::BackendTrafficPolicy(object) => (Kind::BackendTrafficPolicy, &object.metadata),
            Self::ConfigMap(object) => (Kind::ConfigMap, &object.metadata),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, &object.metadata),
            Self::Gateway(object) => (Kind::Gateway, &object.metadata),
            Self::GatewayClass(object) => (Kind::GatewayClass, &object.metadata),
            Self::GatewayParameters(object) => (Kind::GatewayParameters, &object.metadata),
            Self::GatewayOption(object) => (object.kind, &object.metadata),
            Self::ListenerSet(object) => (Kind::ListenerSet, &object.metadata),
            Self::Namespace(object) => (Kind::Namespace, &object.metadata),
            Self::ReferenceGrant(object) => (Kind::ReferenceGrant, &object.metadata),
            Self::Route(object) => (object.kind, object.metadata()),
            Self::RouteOption(object) => (Kind::RouteOption, &object.metadata),
            Self::Secret(object) => (Kind::Secret, &object.metadata),
            Self::Service(object) => (Kind::Service, &object.metadata),
            Self::Upstream(object) => (Kind::Upstream, &object.metadata),
        }
    }

    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        self.head().0
    }

    /// The object's `metadata`.
    pub fn metadata(&self) -> &ObjectMeta {
        self.head().1
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

/// A type of objects that have a `metadata`.
pub trait HasMetadata {
    /// The object's `metadata`.
    fn metadata(&self) -> &ObjectMeta;
}

macro_rules! has_metadata {
    ($($type:ty),+) => {
        $(impl HasMetadata for $type {
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
        })+
    };
}

has_metadata!(
    AffinityPolicy,
    AffinitySlots,
    BackendTlsPolicy,
    BackendTrafficPolicy,
    ConfigMap,
    EndpointSlice,
    Gateway,
    GatewayClass,
    GatewayOption,
    GatewayParameters,
    ListenerSet,
    Namespace,
    ReferenceGrant,
    RouteOption,
    Secret,
    Service,
    Upstream
);
