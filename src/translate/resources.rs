//! The declared resources, with the last good version of every object. (Placeholder of the owner's file.)

use crate::api::{DecodeError, Object};
use crate::base::ObjectRef;

/// One change of the declared resources.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is now this.
    Apply(Box<Object>),
    /// The object is gone.
    Delete(ObjectRef),
    /// A newer version of the object cannot be decoded: the last decoded one keeps serving, its status says so.
    Undecodable(DecodeError),
}

/// The declared resources.
#[derive(Debug, Default)]
pub struct Resources {}

impl Resources {
    /// Takes a change in and remembers what it touched, until `clear_changes`.
    pub fn apply(&mut self, _change: Change) {}

    /// Forgets what was touched: call it after a translation.
    pub fn clear_changes(&mut self) {}
}
