//! Why a command fails, and why a gateway cannot be started.

use std::io;

use crate::admin::AdminError;
use crate::controller::{FilesError, StateError};
use crate::proxy::StartError;
use crate::settings::SettingsError;
use crate::telemetry::{AccessLogError, LogError};

use super::{affinity_keys::KeysError, descriptors::TooFewDescriptors};

/// A gateway cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The directory cannot be used.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The keys of affinity tags cannot be had.
    #[error(transparent)]
    AffinityKeys(#[from] KeysError),
    /// The admin server cannot be started.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The process may have too few open files.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The access log cannot be started.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The data plane cannot be started.
    #[error("the data plane cannot be started: {0}")]
    Proxy(#[from] StartError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// A flag is refused.
    #[error("{0}; see clingfish help")]
    Settings(#[from] SettingsError),
    /// The log cannot be set up.
    #[error("{0}; see --log-level and --log-format")]
    Log(#[from] LogError),
    /// A gateway cannot be started.
    #[error(transparent)]
    App(#[from] AppError),
    /// A directory cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Input or output.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Anything else, complete with what to do next.
    #[error("{0}")]
    Message(String),
}

impl From<AdminError> for CommandError {
    fn from(error: AdminError) -> Self {
        Self::App(AppError::Admin(error))
    }
}
