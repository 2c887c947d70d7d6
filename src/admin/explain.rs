//! `POST /explain` and `POST /simulate`. (Placeholder of the answers until `plan` has them.)

use http::StatusCode;

use crate::snapshot::Snapshot;

/// Explains one request.
pub(super) fn explain(_question: &[u8], _snapshot: &Snapshot) -> (StatusCode, String) {
    (StatusCode::NOT_IMPLEMENTED, String::new())
}

/// Simulates a change of pods or weights.
pub(super) fn simulate(_question: &[u8], _snapshot: &Snapshot) -> (StatusCode, String) {
    (StatusCode::NOT_IMPLEMENTED, String::new())
}
