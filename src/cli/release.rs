//! Flags of `release`: in a cluster the chart gives them as environment variables.

use std::time::Duration;

use clap::Args;

use super::{duration::duration, serve::LogFormat};

/// Flags of `release`. The names are those of `run`.
#[derive(Clone, Debug, Args)]
pub struct ReleaseArgs {
    /// spec.controllerName of the GatewayClasses that the install serves
    #[arg(long, env = "CLINGFISH_CONTROLLER_NAME", value_name = "NAME", default_value = "clingfish.dev/gateway-controller")]
    pub controller_name: String,
    /// Namespace of the install
    #[arg(long, env = "CLINGFISH_INSTALL_NAMESPACE", value_name = "NAMESPACE", default_value = "clingfish-system")]
    pub install_namespace: String,
    /// Name of the install's Lease
    #[arg(long, env = "CLINGFISH_INSTANCE_NAME", value_name = "NAME", default_value = "clingfish")]
    pub instance_name: String,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "45s")]
    pub deadline: Duration,
    /// Exit with 0 if something could not be let go: the removal of the install goes on
    #[arg(long)]
    pub ignore_errors: bool,
    /// Format of the log on standard error
    #[arg(long, env = "CLINGFISH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}
