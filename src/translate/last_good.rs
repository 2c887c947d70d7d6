//! What is said of an object whose newest version could not be decoded: an older one serves, or none.

use super::{
    Condition, Refused,
    condition::{fails, kind, reason},
};

/// The words: what is wrong, and which version serves.
pub(super) fn message(refused: &Refused, serving: Option<i64>) -> String {
    match serving {
        _ if refused.outline => format!("{}; no version of it could be read, so nothing of it is served", refused.message),
        Some(generation) => format!("{}; generation {generation} keeps serving", refused.message),
        None => format!("{}; the last version that could be read keeps serving", refused.message),
    }
}

/// `Accepted=False` for the refused generation.
pub(super) fn condition(refused: &Refused, serving: Option<i64>) -> Condition {
    fails(kind::ACCEPTED, reason::UNSUPPORTED_VALUE, message(refused, serving), refused.generation.or(serving))
}
