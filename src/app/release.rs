//! `clingfish release`: lets everything go that an install serves.

use std::{process::ExitCode, sync::Arc};

use crate::cli::ReleaseArgs;
use crate::controller::{ReleaseSettings, release_install};
use crate::telemetry::init_logging;
use crate::translate::infrastructure::InfrastructureOptions;

use super::{error::CommandError, run::status_keys, serving::control_runtime};

/// Releases, and says how much.
///
/// # Errors
/// The API server does not answer in time, or refuses; not with `--ignore-errors`.
pub(super) fn run(arguments: ReleaseArgs) -> Result<ExitCode, CommandError> {
    init_logging(arguments.log_format.into(), "info")?;
    let settings = ReleaseSettings {
        status_keys: status_keys(&arguments.install_namespace, &arguments.controller_name),
        controller_name: arguments.controller_name.into(),
        infrastructure: Arc::new(InfrastructureOptions {
            install_namespace: arguments.install_namespace.into(),
            instance: arguments.instance_name.into(),
            ..InfrastructureOptions::default()
        }),
        deadline: arguments.deadline,
    };
    match control_runtime()?.block_on(release_install(&settings)) {
        Ok(released) => {
            tracing::info!(
                "{} statuses say that nobody serves these objects; {} Services are deleted",
                released.statuses,
                released.services
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if arguments.ignore_errors => {
            tracing::warn!("not everything could be let go: {error}; `clingfish release` can be run again");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(CommandError::Message(format!("not everything could be let go: {error}; run it again"))),
    }
}
