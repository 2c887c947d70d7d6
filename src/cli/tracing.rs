//! Flags about traces.

use std::path::PathBuf;

use clap::Args;

use crate::settings::{RawTracing, TracingProtocol, TracingSampler};

/// Where spans of requests go, and of which requests.
#[derive(Clone, Default, Args)]
pub struct TracingArgs {
    /// Record requests, and send their spans to this OTLP collector, for example http://collector.observability:4318 [default: no traces]
    #[arg(long, env = "CLINGFISH_TRACING_ENDPOINT", value_name = "URL")]
    pub tracing_endpoint: Option<String>,
    /// Certificates to trust a collector of https by, a PEM file [default: those of the system]
    #[arg(long, env = "CLINGFISH_TRACING_CA_FILE", value_name = "FILE")]
    pub tracing_ca_file: Option<PathBuf>,
    /// How the collector is spoken to
    #[arg(long, env = "CLINGFISH_TRACING_PROTOCOL", value_enum, default_value_t = TracingProtocol::HttpProtobuf)]
    pub tracing_protocol: TracingProtocol,
    /// Headers of the requests to the collector, such as a token
    #[arg(long, env = "CLINGFISH_TRACING_HEADERS", value_name = "NAME=VALUE,...", hide_env_values = true)]
    pub tracing_headers: Option<String>,
    /// Who decides which requests are recorded
    #[arg(long, env = "CLINGFISH_TRACING_SAMPLER", value_enum, default_value_t = TracingSampler::ParentBased)]
    pub tracing_sampler: TracingSampler,
    /// The share of requests that is recorded, from 0 to 100 [default: 100]
    #[arg(long, env = "CLINGFISH_TRACING_SAMPLING_PERCENTAGE", value_name = "PERCENT")]
    pub tracing_sampling_percentage: Option<f64>,
    /// service.name of the spans [default: clingfish]
    #[arg(long, env = "CLINGFISH_TRACING_SERVICE_NAME", value_name = "NAME")]
    pub tracing_service_name: Option<String>,
}

// === impl TracingArgs ===

impl From<TracingArgs> for RawTracing {
    fn from(arguments: TracingArgs) -> Self {
        Self {
            endpoint: arguments.tracing_endpoint,
            ca_file: arguments.tracing_ca_file,
            protocol: arguments.tracing_protocol,
            headers: arguments.tracing_headers,
            sampler: arguments.tracing_sampler,
            percentage: arguments.tracing_sampling_percentage,
            service_name: arguments.tracing_service_name,
        }
    }
}

impl std::fmt::Debug for TracingArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The headers are secrets.
        f.debug_struct("TracingArgs").field("tracing_endpoint", &self.tracing_endpoint).finish_non_exhaustive()
    }
}
