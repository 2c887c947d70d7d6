//! The process's own log: lines on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::base::LineFormat;

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("log filter `{filter}`: {message}; expected a level (error, warn, info, debug) or target=level pairs separated by commas")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong.
        message: String,
    },
    /// Something else has set up a log in this process.
    #[error("the log is set up already")]
    AlreadySet,
}

/// Sets the log up for the whole process. `filter` is a level or `target=level` pairs.
///
/// # Errors
/// The filter is malformed, or a log is set up already.
pub fn init_logging(format: LineFormat, filter: &str) -> Result<(), LogError> {
    let directives =
        EnvFilter::builder().parse(filter).map_err(|error| LogError::Filter { filter: filter.to_owned(), message: error.to_string() })?;
    let registry = tracing_subscriber::registry().with(directives);
    let set = match format {
        LineFormat::Text => {
            let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_target(false);
            registry.with(layer).try_init()
        }
        LineFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init(),
    };
    set.map_err(|_| LogError::AlreadySet)
}
