//! What every command that serves has in common: its log, its runtime, and its end.

use std::net::IpAddr;

use tokio::runtime::Runtime;

use crate::cli::ServeArgs;
use crate::settings::Settings;
use crate::telemetry::{Logging, init_logging};

use super::{error::CommandError, serve::App, shutdown};

/// Validates the settings and sets the log up.
pub(super) fn prepare(serve: ServeArgs, bind: Option<IpAddr>) -> Result<(Settings, Logging), CommandError> {
    let settings = serve.settings(bind)?;
    let logging = init_logging(settings.log_format, &settings.log_filter)?;
    Ok((settings, logging))
}

/// The runtime of everything that is not data plane, engine or admin server; it has little to do.
pub(super) fn control_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()
}

/// Serves until a signal, then drains.
pub(super) async fn serve_until_told(app: App) -> Result<(), CommandError> {
    let signal = shutdown::signal().await?;
    drain(app, &signal).await
}

pub(super) async fn drain(app: App, signal: &impl std::fmt::Display) -> Result<(), CommandError> {
    tracing::info!("{signal}: draining");
    if app.drain().await {
        tracing::info!("drained");
    } else {
        tracing::warn!("what was still in flight was cut off; --drain-max is the limit");
    }
    Ok(())
}
