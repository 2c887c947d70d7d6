//! What `clingfish validate` and its like come to.

use std::process::ExitCode;

/// What a command says of what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is rejected.
    Accepted,
    /// Something is.
    Rejected,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accepted => Self::SUCCESS,
            Verdict::Rejected => Self::FAILURE,
        }
    }
}
