//! Flags of `chart-test`, which `helm test` runs.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Subcommand};

use super::duration::duration;

/// Flags of `chart-test`.
#[derive(Clone, Debug, Args)]
pub struct ChartTestArgs {
    /// Which side of the test.
    #[command(subcommand)]
    pub side: ChartTestSide,
}

/// The two sides of the test.
#[derive(Clone, Debug, Subcommand)]
pub enum ChartTestSide {
    /// Answer every request with the name of this pod
    Backend {
        /// Address to listen on
        #[arg(long, value_name = "ADDRESS", default_value = "[::]:8080")]
        listen: SocketAddr,
        /// Name of this pod
        #[arg(long, env = "CLINGFISH_POD_NAME", value_name = "NAME")]
        pod_name: String,
    },
    /// Send requests, each with the cookie of the first answer, and fail unless one backend answers all of them
    Sticky(StickyArgs),
}

/// Flags of `chart-test sticky`.
#[derive(Clone, Debug, Args)]
pub struct StickyArgs {
    /// Host and port of the Gateway
    #[arg(value_name = "HOST:PORT")]
    pub gateway: String,
    /// Value of the header `host`
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// How many requests
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub requests: u32,
    /// Give up if there is no first answer after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90s")]
    pub deadline: Duration,
}
