//! Leaf layer without domain knowledge: names, publication, readiness, heartbeats, back-off.

mod backoff;
mod bucket;
mod format;
mod heartbeat;
mod names;
mod published;
mod readiness;

pub use backoff::Backoff;
pub use bucket::TokenBucket;
pub use format::LineFormat;
pub use heartbeat::Heartbeat;
pub use names::{Kind, ObjectName, ObjectRef};
pub use published::{Cached, Published, Versioned};
pub use readiness::{Readiness, ReadinessGuard, ReadinessState};
