//! Leaf layer without domain knowledge: names, publication, drain, readiness, back-off.

mod names;
mod published;

pub use names::{Kind, ObjectName, ObjectRef};
pub use published::{Cached, Published};
