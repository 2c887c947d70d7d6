//! A setting that is refused.

/// A setting is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {message}")]
pub struct SettingsError {
    /// The flag.
    pub flag: &'static str,
    /// What is wrong and what was expected.
    pub message: String,
}

pub(super) fn refused(flag: &'static str, message: String) -> SettingsError {
    SettingsError { flag, message }
}
