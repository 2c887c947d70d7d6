//! Flags of `migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of `migrate`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct MigrateArgs {
    /// Where from; none: from the objects of a directory.
    #[command(subcommand)]
    pub from: Option<MigrateFrom>,
    /// From other gateways.
    #[command(flatten)]
    pub others: MigrateOthersArgs,
}

/// Flags of `migrate DIR`.
#[derive(Clone, Debug, Args)]
pub struct MigrateOthersArgs {
    /// Directory of manifests or of what `kubectl get -A -o yaml` wrote: Ingresses (ingress-nginx, HAProxy), Traefik, Contour, Istio, Envoy Gateway, kgateway
    #[arg(value_name = "DIR", required = true)]
    pub from: Option<PathBuf>,
    /// Where to write to.
    #[command(flatten)]
    pub to: MigrateToArgs,
    /// Gateway for routes of kinds that the Gateway API does not have; it is written too
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "clingfish-system/migrated")]
    pub gateway: String,
}

/// Where the outcome of a migration goes.
#[derive(Clone, Debug, Args)]
pub struct MigrateToArgs {
    /// Directory to write to: new/ is for `kubectl apply`, changed/ for `kubectl replace` [default: standard output; the report then goes to standard error]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Overwrite what an earlier run has written
    #[arg(long, requires = "to")]
    pub force: bool,
    /// GatewayClass of the new Gateways
    #[arg(long, value_name = "NAME", default_value = "clingfish")]
    pub class: String,
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
    /// Where to write to.
    #[command(flatten)]
    pub to: MigrateToArgs,
    /// What the name of a twin ends in
    #[arg(long, value_name = "TEXT", default_value = "-clingfish", allow_hyphen_values = true)]
    pub suffix: String,
}
