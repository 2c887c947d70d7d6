//! The immutable routing model: what the data plane reads, built by `translate`, loaded once per request.
//!
//! It does not know Kubernetes. Snapshots share parts: a change replaces the parts that changed, and keeps the `Arc` of every other.

mod affinity;
mod breaker;
mod cluster;
mod cors;
mod digest;
mod dump;
mod dump_policy;
mod filter;
mod hash_policy;
mod hold;
mod host;
mod host_map;
mod listener;
mod matcher;
mod matcher_index;
mod moves;
mod observed;
mod pattern;
mod policy;
mod query;
mod root;
mod route;
mod table_digest;
mod tls;
mod transport;

pub use crate::lb::{Balancer, Remapped, TableKind};

pub use affinity::{Affinity, Carrier, MissingKey, Split};
pub use breaker::{CircuitBreakers, ClusterLive};
pub use cluster::{
    BackendName, Cluster, ClusterId, ClusterState, ConnectionOptions, ProxyProtocolVersion, Reduced, TableState, UpstreamProtocol,
    VacantSlot, vacant_slot,
};
pub use cors::{Cors, CorsList, OriginPattern};
pub use digest::digest;
pub use dump::{Dump, dump};
pub use filter::{Filters, Fraction, HeaderOps, Mirror, PathRewrite, Redirect, UrlRewrite};
pub use hash_policy::{CookiePolicy, HashPolicy, HashSource, JwtClaim, RewrittenHeader};
pub use hold::{CookiePath, HeldHosts, Hold, Persistence, TagCarrier, TagMeaning};
pub use host::{Host, HostLive, PodRef};
pub use host_map::{HostMap, HostMapBuilder, Hostname, Specificity};
pub use listener::{Bind, BindProtocol, ClientProfile, EscapedSlashesAction, HeadersWithUnderscores, Listener, PathNormalization};
pub use matcher::{HeaderMatch, Matcher, PathMatch, QueryMatch, ValueMatch};
pub(crate) use moves::pods_that_left;
pub use moves::{Move, Pods, move_cause};
pub use observed::{Agreement, BindState, GatewayPort, Observed, ObservedService, ObservedServiceType, ServiceAddress};
pub use pattern::{Extent, Pattern};
pub use policy::{GrpcStatuses, Jitter, RetryOn, RetryPolicy, RoutePolicy, Timeouts};
pub use query::{Query, query_value};
pub use root::Snapshot;
pub use route::{Action, Backend, FixedReply, Forward, HostRoutes, MatchedRoute, RegexOrder, RouteEntry, RouteName, Rule, Target};
pub use table_digest::{backend_digest, table_digest};
pub use tls::{
    Certificate, ClientValidation, ClientValidationMode, HostIdentity, HostTls, TlsContent, TlsListener, TlsSettings, TlsTermination,
    TlsVersions, Trust, UpstreamTls, lower_case,
};
pub use transport::{BindAddress, Transport, TransportPort};
