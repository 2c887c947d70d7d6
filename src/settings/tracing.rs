//! Where spans of requests go, and of which requests.

use std::path::PathBuf;

use crate::base::trace::{CollectorEndpoint, CollectorProtocol, CollectorRoots, Sampler, SamplerKind, TracingConfig, collector_headers};
use clap::ValueEnum;

use super::error::{SettingsError, refused};

/// `--tracing-protocol`, as OpenTelemetry's `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TracingProtocol {
    /// Protobuf over HTTP; port 4318 if the URL has none, and the path /v1/traces
    #[default]
    #[value(name = "http/protobuf")]
    HttpProtobuf,
    /// gRPC; port 4317 if the URL has none
    #[value(name = "grpc")]
    Grpc,
}

/// `--tracing-sampler`, as OpenTelemetry's `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TracingSampler {
    /// The client's traceparent decides; without one, the share
    #[default]
    #[value(name = "parentbased_traceidratio")]
    ParentBased,
    /// The share decides, whatever the client's traceparent says
    #[value(name = "traceidratio")]
    TraceIdRatio,
}

/// What was given about tracing, not validated yet.
#[derive(Clone, Default)]
pub struct RawTracing {
    /// `--tracing-endpoint`.
    pub endpoint: Option<String>,
    /// `--tracing-ca-file`.
    pub ca_file: Option<PathBuf>,
    /// `--tracing-protocol`.
    pub protocol: TracingProtocol,
    /// `--tracing-headers`.
    pub headers: Option<String>,
    /// `--tracing-sampler`.
    pub sampler: TracingSampler,
    /// `--tracing-sampling-percentage`.
    pub percentage: Option<f64>,
    /// `--tracing-service-name`.
    pub service_name: Option<String>,
}

// === impl RawTracing ===

impl RawTracing {
    /// Validates; `None`: no endpoint, no tracing. What is given beside is checked even so.
    pub(super) fn validate(self) -> Result<Option<TracingConfig>, SettingsError> {
        let percentage = self.percentage.unwrap_or(100.0);
        if !(0.0..=100.0).contains(&percentage) {
            return Err(refused("--tracing-sampling-percentage", format!("{percentage} is out of range; expected 0 to 100")));
        }
        let headers = collector_headers(self.headers.as_deref().unwrap_or_default())
            .map_err(|error| refused("--tracing-headers", error.to_string()))?;
        let Some(url) = self.endpoint.filter(|url| !url.is_empty()) else { return Ok(None) };
        let protocol = match self.protocol {
            TracingProtocol::HttpProtobuf => CollectorProtocol::HttpProtobuf,
            TracingProtocol::Grpc => CollectorProtocol::Grpc,
        };
        let endpoint = CollectorEndpoint::parse(url.trim(), protocol).map_err(|error| refused("--tracing-endpoint", error.to_string()))?;
        let roots = match self.ca_file.filter(|file| !file.as_os_str().is_empty()) {
            None => CollectorRoots::System,
            Some(file) if endpoint.is_tls => CollectorRoots::File(file),
            Some(_) => {
                return Err(refused("--tracing-ca-file", "nothing is verified over http; expected https in --tracing-endpoint".into()));
            }
        };
        let kind = match self.sampler {
            TracingSampler::ParentBased => SamplerKind::ParentBased,
            TracingSampler::TraceIdRatio => SamplerKind::TraceIdRatio,
        };
        let service = self.service_name.filter(|name| !name.is_empty()).unwrap_or_else(|| "clingfish".into());
        let resource = vec![("service.name", service), ("service.version", env!("CARGO_PKG_VERSION").into())];
        Ok(Some(TracingConfig { endpoint, roots, headers, sampler: Sampler::new(kind, percentage), resource }))
    }
}

/// Who a process is among those of its service: a pod of a namespace.
pub(super) fn name_pod(config: &mut TracingConfig, namespace: &str, pod: &str) {
    config.resource.extend([
        ("service.namespace", namespace.to_owned()),
        ("service.instance.id", pod.to_owned()),
        ("k8s.namespace.name", namespace.to_owned()),
        ("k8s.pod.name", pod.to_owned()),
    ]);
}

impl std::fmt::Debug for RawTracing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawTracing").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(endpoint: &str) -> RawTracing {
        RawTracing { endpoint: Some(endpoint.into()), ..RawTracing::default() }
    }

    #[test]
    fn tracing_is_off_without_an_endpoint() {
        assert!(RawTracing::default().validate().unwrap().is_none());
        assert!(raw("").validate().unwrap().is_none(), "an empty environment variable is none");
        let config = raw("http://collector:4318").validate().unwrap().unwrap();
        assert_eq!((config.sampler, config.roots), (Sampler::new(SamplerKind::ParentBased, 100.0), CollectorRoots::System));
        assert_eq!(config.resource[0], ("service.name", "clingfish".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_named_even_while_tracing_is_off() {
        for (raw, expected) in [
            (
                raw("collector:4318"),
                "--tracing-endpoint: \"collector:4318\" is no address of a collector; expected http://HOST:PORT or https://HOST:PORT, for example \
                 http://collector.observability:4318",
            ),
            (
                RawTracing { ca_file: Some("ca.crt".into()), ..raw("http://collector") },
                "--tracing-ca-file: nothing is verified over http; expected https in --tracing-endpoint",
            ),
            (
                RawTracing { percentage: Some(101.0), ..RawTracing::default() },
                "--tracing-sampling-percentage: 101 is out of range; expected 0 to 100",
            ),
            (
                RawTracing { percentage: Some(f64::NAN), ..RawTracing::default() },
                "--tracing-sampling-percentage: NaN is out of range; expected 0 to 100",
            ),
            (
                RawTracing { headers: Some("a=1,token".into()), ..RawTracing::default() },
                "--tracing-headers: header 2 cannot be used; expected NAME=VALUE, several separated by commas, in visible ASCII",
            ),
        ] {
            assert_eq!(raw.validate().unwrap_err().to_string(), expected);
        }
    }
}
