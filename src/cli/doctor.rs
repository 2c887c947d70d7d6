//! Flags of `doctor`.

use clap::{Args, ValueEnum};

/// Flags of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Namespace of the install; not needed where the cluster has only one
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Format of the answer
    #[arg(long, value_enum, default_value_t = DoctorOutput::Text)]
    pub output: DoctorOutput,
}

/// Format of what the doctor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorOutput {
    /// A page for people
    Text,
    /// A JSON object with every finding
    Json,
}
