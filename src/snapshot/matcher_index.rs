//! Index of the paths of one hostname. (Placeholder.)

/// Finds the entries whose path matches.
#[derive(Clone, Debug, Default)]
pub(super) struct PathIndex {}
