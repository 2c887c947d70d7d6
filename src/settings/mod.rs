//! The settings of the process, validated and immutable. The only place that reads the environment (`clap` reads `CLINGFISH_...` for
//! `cli`).

mod access_log;
mod backends;
mod ceilings;
mod cluster;
mod cpu;
mod error;
mod tracing;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;
use http::HeaderValue;
use ipnet::IpNet;

use error::refused;

pub use crate::base::{AccessLogConditions, AccessLogFormat, LineFormat, trace::TracingConfig};
pub use access_log::{AccessLogKind, RawAccessLogConditions};
pub use backends::BackendSettings;
pub use ceilings::{CeilingSettings, CeilingsInForce, Granted, RawCeilings};
pub use cluster::{IpFamilyPolicy, RawRunSettings, RunSettings, ServiceType, TrafficPolicy, UpstreamCrossNamespace, ValidateAs};
pub use cpu::default_workers;
pub use error::SettingsError;
pub use tracing::{RawTracing, TracingProtocol, TracingSampler};

/// Where the admin server listens without being told.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);

/// Points that all rings may have: with the least, one ring may have 1024, Envoy's default; the most take some 16 GB.
const RING_POINTS: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 30;

/// Most workers that may be asked for.
pub const MAX_WORKERS: usize = 256;

/// Settings of a process that serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data-plane threads, at least 1.
    pub workers: usize,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// Form of the log.
    pub log_format: LineFormat,
    /// Filter of the log: a level, or `target=level` pairs.
    pub log_filter: String,
    /// Form of the access log; `None`: off.
    pub access_log: Option<AccessLogFormat>,
    /// Traces; `None`: off.
    pub tracing: Option<TracingConfig>,
    /// Which requests have a line in it.
    pub access_log_conditions: AccessLogConditions,
    /// Address of listeners whose Gateway has no `spec.addresses`.
    pub bind: IpAddr,
    /// Where last good versions are kept beyond the process; `None`: nowhere.
    pub state_directory: Option<PathBuf>,
    /// File of the keys of affinity tags; `None`: one in the state directory, else keys of this process alone.
    pub affinity_keys: Option<PathBuf>,
    /// How the process ends.
    pub drain: DrainSettings,
    /// How far clients are trusted.
    pub client: ClientSettings,
    /// What goes to one backend.
    pub backends: BackendSettings,
    /// How much the data plane takes on.
    pub ceilings: CeilingSettings,
    /// What those who may write objects may take.
    pub tenants: TenantSettings,
}

/// What those who may write objects may take of a gateway that they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantSettings {
    /// What becomes of a hostname that routes of several namespaces claim.
    pub hostname_ownership: HostnameOwnership,
    /// Most points of all rings together.
    pub ring_points: u64,
}

/// What becomes of a hostname that routes of several namespaces claim on one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HostnameOwnership {
    /// All of them, by the precedence of the Gateway API
    #[default]
    Any,
    /// Those of the namespace with the oldest route; the others are refused
    FirstNamespace,
}

/// How the process ends after SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// Time during which new connections are still accepted, so that load balancers stop sending traffic first.
    pub min: Duration,
    /// Time after which what is still in flight is cut off.
    pub max: Duration,
}

/// Overrides of what a GatewayClass says about clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Envoy's `use_remote_address`; `None`: by class.
    pub use_remote_address: Option<bool>,
    /// Envoy's `xff_num_trusted_hops`.
    pub xff_num_trusted_hops: u32,
    /// Load balancers whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol_trusted_ips: Vec<IpNet>,
    /// The `server` header; `None`: by class.
    pub server_header: Option<HeaderValue>,
    /// What is done to paths before they are matched.
    pub path: PathSettings,
    /// What becomes of headers whose names have underscores.
    pub headers_with_underscores: HeadersWithUnderscores,
}

/// What becomes of headers whose names have underscores: Envoy's `headers_with_underscores_action`, and a careful default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HeadersWithUnderscores {
    /// Drop those that a backend may take for the length of the message or the identity of the client
    #[default]
    #[value(name = "DROP_GUARDED")]
    DropGuarded,
    /// Keep all
    #[value(name = "ALLOW")]
    Allow,
    /// Answer 400 to a request that has one
    #[value(name = "REJECT_REQUEST")]
    RejectRequest,
    /// Drop all
    #[value(name = "DROP_HEADER")]
    DropHeader,
}

/// What is done to the path of a request before it is matched, as Envoy's HttpConnectionManager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathSettings {
    /// Envoy's `merge_slashes`.
    pub merge_slashes: bool,
    /// Envoy's `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashesAction,
}

/// Envoy's `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EscapedSlashesAction {
    /// Match and forward the path as it is
    #[default]
    #[value(name = "KEEP_UNCHANGED")]
    KeepUnchanged,
    /// Answer 400 to such a request
    #[value(name = "REJECT_REQUEST")]
    RejectRequest,
    /// Redirect (307) such a request to the path with slashes
    #[value(name = "UNESCAPE_AND_REDIRECT")]
    UnescapeAndRedirect,
    /// Match and forward the path with slashes
    #[value(name = "UNESCAPE_AND_FORWARD")]
    UnescapeAndForward,
}

/// A setting as it was given, not validated yet.
#[derive(Clone, Debug, Default)]
pub struct RawSettings {
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--admin`.
    pub admin: Option<SocketAddr>,
    /// `--log-format`.
    pub log_format: LineFormat,
    /// `--log-level`.
    pub log_filter: Option<String>,
    /// `--access-log`.
    pub access_log: AccessLogKind,
    /// `--access-log-template`.
    pub access_log_template: Option<String>,
    /// `--tracing-...`.
    pub tracing: RawTracing,
    /// `--access-log-status`, `--access-log-min-duration`, `--access-log-flags`, `--access-log-sample`.
    pub access_log_conditions: RawAccessLogConditions,
    /// `--bind`.
    pub bind: Option<IpAddr>,
    /// `--state-directory`.
    pub state_directory: Option<PathBuf>,
    /// `--drain-min`.
    pub drain_min: Option<Duration>,
    /// `--drain-max`.
    pub drain_max: Option<Duration>,
    /// `--use-remote-address`.
    pub use_remote_address: Option<bool>,
    /// `--xff-num-trusted-hops`.
    pub xff_num_trusted_hops: u32,
    /// `--proxy-protocol-trusted-ips`.
    pub proxy_protocol_trusted_ips: Vec<IpNet>,
    /// `--server-header`.
    pub server_header: Option<String>,
    /// What goes to one backend.
    pub backends: BackendSettings,
    /// `--max-...`.
    pub ceilings: RawCeilings,
    /// `--merge-slashes`, `--path-with-escaped-slashes-action`.
    pub path: PathSettings,
    /// `--headers-with-underscores-action`.
    pub headers_with_underscores: HeadersWithUnderscores,
    /// `--hostname-ownership`, `--ring-points`.
    pub tenants: TenantSettings,
}

/// Where resources come from in commands that do not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// The admin port of a running gateway: host and port.
    Admin(String),
}

// === impl TenantSettings ===

impl Default for TenantSettings {
    fn default() -> Self {
        Self { hostname_ownership: HostnameOwnership::Any, ring_points: 8 << 20 }
    }
}

impl TenantSettings {
    /// Validates.
    ///
    /// # Errors
    /// The setting that is refused.
    pub fn validate(self) -> Result<Self, SettingsError> {
        if !RING_POINTS.contains(&self.ring_points) {
            let (least, most) = (RING_POINTS.start(), RING_POINTS.end());
            return Err(refused("--ring-points", format!("{} is out of range; expected {least} to {most}", self.ring_points)));
        }
        Ok(self)
    }
}

// === impl RawSettings ===

impl RawSettings {
    /// Validates and fills in defaults.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub fn validate(self) -> Result<Settings, SettingsError> {
        let workers = self.workers.unwrap_or_else(default_workers);
        if workers == 0 || workers > MAX_WORKERS {
            return Err(refused("--workers", format!("{workers} is out of range; expected 1 to {MAX_WORKERS}")));
        }
        let drain = DrainSettings { min: self.drain_min.unwrap_or(Duration::ZERO), max: self.drain_max.unwrap_or(Duration::from_secs(30)) };
        if drain.min > drain.max {
            return Err(refused("--drain-min", format!("{:?} is longer than --drain-max, {:?}", drain.min, drain.max)));
        }
        let server_header = match self.server_header {
            None => None,
            Some(text) => Some(
                HeaderValue::from_str(&text)
                    .map_err(|_| refused("--server-header", format!("{text:?} is no header value; expected visible ASCII")))?,
            ),
        };
        Ok(Settings {
            workers,
            admin: self.admin.unwrap_or(DEFAULT_ADMIN),
            log_format: self.log_format,
            log_filter: self.log_filter.unwrap_or_else(|| "info".into()),
            access_log: self.access_log.with(self.access_log_template.as_deref())?,
            tracing: self.tracing.validate()?,
            access_log_conditions: self.access_log_conditions.validate()?,
            bind: self.bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            state_directory: self.state_directory,
            affinity_keys: None,
            drain,
            client: ClientSettings {
                use_remote_address: self.use_remote_address,
                xff_num_trusted_hops: self.xff_num_trusted_hops,
                proxy_protocol_trusted_ips: self.proxy_protocol_trusted_ips,
                server_header,
                path: self.path,
                headers_with_underscores: self.headers_with_underscores,
            },
            backends: self.backends.validate()?,
            ceilings: self.ceilings.validate()?,
            tenants: self.tenants.validate()?,
        })
    }
}

// === impl Source ===

impl Source {
    /// Exactly one of a directory and an admin URL.
    ///
    /// # Errors
    /// Neither or both are given, or the URL is not `http://HOST:PORT`.
    pub fn new(manifests: Option<PathBuf>, admin: Option<&str>) -> Result<Self, SettingsError> {
        match (manifests, admin) {
            (Some(directory), None) => Ok(Self::Manifests(directory)),
            (None, Some(url)) => Ok(Self::Admin(admin_authority(url)?)),
            (None, None) => {
                Err(refused("--manifests", "say where the resources are: --manifests DIR, or --admin URL of a running gateway".into()))
            }
            (Some(_), Some(_)) => Err(refused("--manifests", "give either --manifests or --admin, not both".into())),
        }
    }
}

fn admin_authority(url: &str) -> Result<String, SettingsError> {
    let expected =
        || refused("--admin", format!("{url:?} is no admin address; expected http://HOST:PORT, for example http://127.0.0.1:9901"));
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let parsed: http::uri::Authority = authority.parse().map_err(|_| expected())?;
    if parsed.port_u16().is_none() || parsed.host().is_empty() || authority.contains('@') {
        return Err(expected());
    }
    Ok(authority.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let settings = RawSettings::default().validate().unwrap();
        assert_eq!(settings.admin.to_string(), "127.0.0.1:9901");
        assert_eq!(settings.bind.to_string(), "0.0.0.0");
        assert_eq!(settings.log_filter, "info");
        assert!((1..=8).contains(&settings.workers));
    }

    #[test]
    fn a_refused_setting_names_its_flag_and_what_was_expected() {
        let second = Duration::from_secs(1);
        for (raw, expected) in [
            (RawSettings { workers: Some(0), ..Default::default() }, "--workers: 0 is out of range; expected 1 to 256"),
            (
                RawSettings { drain_min: Some(2 * second), drain_max: Some(second), ..Default::default() },
                "--drain-min: 2s is longer than --drain-max, 1s",
            ),
            (
                RawSettings { tenants: TenantSettings { ring_points: 8191, ..Default::default() }, ..Default::default() },
                "--ring-points: 8191 is out of range; expected 8192 to 1073741824",
            ),
            (
                RawSettings { server_header: Some("a\nb".into()), ..Default::default() },
                "--server-header: \"a\\nb\" is no header value; expected visible ASCII",
            ),
            (
                RawSettings { backends: BackendSettings { max_requests: Some(0), ..Default::default() }, ..Default::default() },
                "--circuit-breaker-max-requests: 0 would stop all traffic; expected 1 or more",
            ),
            (
                RawSettings { backends: BackendSettings { retry_budget_percent: Some(101), ..Default::default() }, ..Default::default() },
                "--retry-budget-percent: 101 is out of range; expected 0 to 100",
            ),
        ] {
            assert_eq!(raw.validate().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn an_admin_address_is_host_and_port() {
        for (url, authority) in [
            ("http://127.0.0.1:9901", "127.0.0.1:9901"),
            ("http://127.0.0.1:9901/", "127.0.0.1:9901"),
            ("localhost:9901", "localhost:9901"),
            ("http://[::1]:9901", "[::1]:9901"),
        ] {
            assert_eq!(Source::new(None, Some(url)).unwrap(), Source::Admin(authority.into()));
        }
        for url in ["", "http://", "https://a:1", "http://a", "http://a:b", "http://a:1/x", "http://u@a:1"] {
            assert!(Source::new(None, Some(url)).is_err(), "{url}");
        }
    }
}
