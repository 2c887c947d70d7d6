//! What was found wrong with an object of Gloo's kinds, and how a status says it.

use crate::base::Message;
use crate::translate::status::{GlooState, GlooStatus};

/// Bound on `reason`, in bytes: Gloo's.
const MAX_REASON: usize = 1024;

/// Who writes the status.
pub const REPORTED_BY: &str = "clingfish";

/// What is wrong with an object. Errors make it Rejected, warnings alone Warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong, each with field and expectation, in one line.
    pub errors: Vec<Message>,
    /// What has no effect, or another one than its author may think.
    pub warnings: Vec<Message>,
}

// === impl Findings ===

impl Findings {
    /// Takes a warning in.
    pub fn warn(&mut self, message: impl Into<Message>) {
        self.warnings.push(message.into());
    }

    /// Takes an error in.
    pub fn refuse(&mut self, message: impl Into<Message>) {
        self.errors.push(message.into());
    }

    /// Gloo's state.
    pub fn state(&self) -> GlooState {
        if !self.errors.is_empty() {
            GlooState::Rejected
        } else if !self.warnings.is_empty() {
            GlooState::Warning
        } else {
            GlooState::Accepted
        }
    }

    /// As a status: the reason is laid out as Gloo lays it out, errors before warnings, and cut to Gloo's bound.
    pub fn status(&self) -> GlooStatus {
        let mut reason = String::new();
        if let count @ 1.. = self.errors.len() {
            let errors = if count == 1 { "error" } else { "errors" };
            reason = format!("{count} {errors} occurred:\n\t* {}\n\n", self.errors.join("\n\t* "));
        }
        if !self.warnings.is_empty() {
            reason.push_str("warning: \n  ");
            reason.push_str(&self.warnings.join("\n"));
        }
        truncate(&mut reason, MAX_REASON);
        GlooStatus { state: self.state(), reason, reported_by: REPORTED_BY.to_owned() }
    }
}

/// Cuts at a character's boundary, at most `limit` bytes with the ellipsis.
fn truncate(text: &mut String, limit: usize) {
    const ELLIPSIS: &str = "...";
    if text.len() > limit {
        let mut end = limit.saturating_sub(ELLIPSIS.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_laid_out_as_gloos() {
        let findings = |errors: &[&str], warnings: &[&str]| Findings {
            errors: errors.iter().copied().map(Into::into).collect(),
            warnings: warnings.iter().copied().map(Into::into).collect(),
        };
        for (findings, state, reason) in [
            (findings(&[], &[]), GlooState::Accepted, ""),
            (findings(&[], &["a", "b"]), GlooState::Warning, "warning: \n  a\nb"),
            (findings(&["x"], &[]), GlooState::Rejected, "1 error occurred:\n\t* x\n\n"),
            (findings(&["x", "y"], &["a"]), GlooState::Rejected, "2 errors occurred:\n\t* x\n\t* y\n\nwarning: \n  a"),
        ] {
            let status = findings.status();
            assert_eq!((status.state, status.reason.as_str()), (state, reason));
            assert_eq!(status.reported_by, "clingfish");
        }
    }

    #[test]
    fn reasons_are_cut_to_gloos_bound() {
        let status = Findings { errors: vec!["\u{e9}".repeat(500).into(), "\u{e9}".repeat(500).into()], warnings: Vec::new() }.status();
        assert!(status.reason.len() <= MAX_REASON && status.reason.len() > MAX_REASON - 3);
        assert!(status.reason.ends_with("..."));
    }
}
