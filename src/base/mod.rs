//! What knows nothing of gateways: names, messages, heads of HTTP, formats of log lines, publication, readiness, heartbeats, back-off, file descriptors,
//! memory, overload, certificates, trace context.

mod affinity_keys;
mod backoff;
mod bucket;
mod cgroup;
pub mod crypto;
mod descriptors;
mod format;
pub mod head;
mod heartbeat;
mod kind;
mod log_template;
mod memory;
mod move_cause;
mod name_digest;
mod names;
mod overload;
mod published;
mod readiness;
mod session_token;
mod table_digests;
pub mod text;
pub mod trace;
pub mod x509;

pub use affinity_keys::{AffinityKeys, Signature, TAG_DIGITS, Tag};
pub use backoff::Backoff;
pub use bucket::TokenBucket;
pub use cgroup::{Cgroup, CgroupVersion, cgroups, own_cgroups};
pub use descriptors::{DescriptorBudget, RaisedLimit, is_out_of_descriptors, open_descriptors, raise_descriptor_limit};
pub use format::{AccessLogConditions, AccessLogFormat, LineFormat, MILLION};
pub use heartbeat::Heartbeat;
pub use kind::{Kind, KindFacts, Origin, Scope, StatusShape};
pub use log_template::{
    AddressOf, AddressPart, FieldChoice, LogTemplate, Operator, RequestField, ResponseField, Segment, TemplateError, TimeFormat,
};
pub use memory::{MemoryMonitor, MemoryReading, resident_memory};
pub use move_cause::MoveCause;
pub use name_digest::name_digest;
pub use names::{ObjectName, ObjectRef};
pub use overload::{Overload, OverloadLevel};
pub use published::{Cached, Published, Versioned};
pub use readiness::{Readiness, ReadinessGuard, ReadinessState};
pub use session_token::{SessionToken, TOKEN_BYTES};
pub use table_digests::TableDigests;
pub use text::Message;
