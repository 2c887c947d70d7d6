//! The types of objects, as their owners define them: Gateway API, core Kubernetes, Gloo.

mod affinity;
mod affinity_slots;
mod backend_traffic_policy;
mod checks;
mod crd;
mod decode;
mod gloo;
mod listener_set;
mod metadata;
mod object;
mod outline;
mod parameters;
mod route;
mod secret;
mod session_persistence;

pub use affinity::{
    AffinityAlgorithm, AffinityCarrier, AffinityCookie, AffinityHeader, AffinityJwtClaim, AffinityKey, AffinityLoad, AffinityMaglev,
    AffinityPolicy, AffinityPolicySpec, AffinityPrefixLength, AffinityQueryParam, AffinityRegex, AffinityRingHash, AffinityRollout,
    AffinitySourceIp, AffinityTargetRef, AffinityWarmUp,
};
pub use affinity_slots::{AffinitySlots, AffinitySlotsSpec, SlotEntry, SlotHolder, SlotsTargetRef};
pub use backend_traffic_policy::{BackendTargetRef, BackendTrafficPolicy, BackendTrafficPolicySpec};
pub use decode::{DecodeError, Document, decode, decode_manifest};
pub use gloo::{
    CircuitBreakerConfig, ConnectionConfig, Cookie, CrdError, Empty, GatewayOption, GatewayOptionSpec, GlooStatusMap, GoDuration,
    HashPolicy, HeaderManipulation, HeaderToAdd, HeaderValueOption, HttpProtocolOptions, KubeUpstream, LbHash, LeastRequest,
    LoadBalancerConfig, RegexPattern, RegexRewrite, Retries, RetryBackOff, RingHash, RingHashConfig, RouteOption, RouteOptionSpec,
    RouteOptions, StaticHost, StaticUpstream, TargetRef, Uint, Unmodelled, Upstream, UpstreamSpec, VERSION_ANNOTATION, crd_documents,
    crd_values, crds_yaml,
};
pub use listener_set::{ListenerSet, ListenerSetSpec};
pub use metadata::{creation_timestamp, object_name};
pub use object::{HasMetadata, Object};
pub use parameters::{GatewayParameters, GatewayParametersSpec, NodePort, ServiceParameters};
pub use route::{
    GrpcMatch, GrpcMethodMatch, GrpcMethodMatchType, HttpMatch, Route, RouteBackendRef, RouteBody, RouteFilter, RouteParentRef, RouteRule,
    RouteSpec,
};
pub use session_persistence::{PersistenceCookie, PersistenceHeader, SessionPersistence};
