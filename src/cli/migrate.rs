//! Flags of `migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of `migrate`.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    /// Where from.
    #[command(subcommand)]
    pub from: MigrateFrom,
}

/// What is migrated.
#[derive(Clone, Debug, Subcommand)]
pub enum MigrateFrom {
    /// From Gloo Gateway: write a twin of every Gateway and the routes that hang on it too, and say what is lost and what differs; exit code 1 if something that guards is lost, or refused
    Gloo(MigrateGlooArgs),
}

/// Flags of `migrate gloo`.
#[derive(Clone, Debug, Args)]
pub struct MigrateGlooArgs {
    /// Directory of what `kubectl get -A -o yaml` wrote, in any number of files
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// Directory to write to: new/ is for `kubectl apply`, changed/ for `kubectl replace` [default: standard output; the report then goes to standard error]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Overwrite what an earlier run has written
    #[arg(long, requires = "to")]
    pub force: bool,
    /// GatewayClass of the twins
    #[arg(long, value_name = "NAME", default_value = "clingfish")]
    pub class: String,
    /// What the name of a twin ends in
    #[arg(long, value_name = "TEXT", default_value = "-clingfish", allow_hyphen_values = true)]
    pub suffix: String,
}
