//! Flags of every command that serves.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::{ArgAction, Args, ValueEnum};
use ipnet::{IpNet, Ipv4Net};

use crate::settings::{
    AccessLogKind, EscapedSlashesAction, HeadersWithUnderscores, HostnameOwnership, LineFormat, PathSettings, RawSettings, Settings,
    SettingsError, TenantSettings,
};

use super::{access_log::AccessLogArgs, backends::BackendArgs, ceilings::CeilingArgs, duration::duration, tracing::TracingArgs};

/// Flags of every command that serves.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Data-plane threads [default: the CPU quota, else the cores, at most 8]
    #[arg(long, env = "CLINGFISH_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Address of the admin server: /metrics, /livez, /readyz, /servingz, /config, /explain and a page [default: 127.0.0.1:9901; with `run`: port 9901 of every address]
    #[arg(long, env = "CLINGFISH_ADMIN", value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Format of the log on standard error
    #[arg(long, env = "CLINGFISH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to log: error, warn, info, debug, or target=level pairs [default: info]
    #[arg(long, env = "CLINGFISH_LOG_LEVEL", value_name = "FILTER")]
    pub log_level: Option<String>,
    /// Write a line for each request to standard output
    #[arg(long, env = "CLINGFISH_ACCESS_LOG", value_enum, default_value_t = AccessLogKind::Off)]
    pub access_log: AccessLogKind,
    /// The line of `--access-log template`, in Envoy's command operators, for example '%START_TIME% %REQ(:PATH)% %RESPONSE_CODE%'
    #[arg(long, env = "CLINGFISH_ACCESS_LOG_TEMPLATE", value_name = "TEXT")]
    pub access_log_template: Option<String>,
    /// Which requests have a line.
    #[command(flatten)]
    pub access_log_conditions: AccessLogArgs,
    /// Take the client's address from the connection and not from X-Forwarded-For, as Envoy's use_remote_address [default: by GatewayClass]
    #[arg(long, env = "CLINGFISH_USE_REMOTE_ADDRESS", value_name = "BOOL", action = ArgAction::Set)]
    pub use_remote_address: Option<bool>,
    /// Number of proxies in front of the gateway whose X-Forwarded-For entries are believed
    #[arg(long, env = "CLINGFISH_XFF_NUM_TRUSTED_HOPS", value_name = "N", default_value_t = 0)]
    pub xff_num_trusted_hops: u32,
    /// Networks of load balancers that say who the client is: each of their connections must begin with a header of the PROXY protocol (version 1 or 2), for example 10.0.0.0/8,fd00::/8
    #[arg(long, env = "CLINGFISH_PROXY_PROTOCOL_TRUSTED_IPS", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    pub proxy_protocol_trusted_ips: Vec<IpNet>,
    /// Value of the response header `server` [default: by GatewayClass]
    #[arg(long, env = "CLINGFISH_SERVER_HEADER", value_name = "TEXT")]
    pub server_header: Option<String>,
    /// What is done to paths before they are matched.
    #[command(flatten)]
    pub path: PathArgs,
    /// What to do with headers whose names have underscores, which many backends read as dashes
    #[arg(long, env = "CLINGFISH_HEADERS_WITH_UNDERSCORES_ACTION", value_enum, default_value_t = HeadersWithUnderscores::DropGuarded)]
    pub headers_with_underscores_action: HeadersWithUnderscores,
    /// What those who may write objects may take.
    #[command(flatten)]
    pub tenants: TenantArgs,
    /// After SIGTERM, keep accepting connections for this long [default: 0s]
    #[arg(long, env = "CLINGFISH_DRAIN_MIN", value_name = "DURATION", value_parser = duration)]
    pub drain_min: Option<Duration>,
    /// After SIGTERM, cut off what is still in flight after this long [default: 30s]
    #[arg(long, env = "CLINGFISH_DRAIN_MAX", value_name = "DURATION", value_parser = duration)]
    pub drain_max: Option<Duration>,
    /// What goes to one backend.
    #[command(flatten)]
    pub backends: BackendArgs,
    /// How much the data plane takes on.
    #[command(flatten)]
    pub ceilings: CeilingArgs,
    /// Where spans of requests go, and of which requests.
    #[command(flatten)]
    pub tracing: TracingArgs,
}

/// What is done to paths before they are matched.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct PathArgs {
    /// Treat several slashes in a row in a path as one, as Envoy's merge_slashes
    #[arg(long, env = "CLINGFISH_MERGE_SLASHES", value_name = "BOOL", action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true")]
    pub merge_slashes: bool,
    /// What to do with %2f and %5c in a path, as Envoy's setting of this name
    #[arg(long, env = "CLINGFISH_PATH_WITH_ESCAPED_SLASHES_ACTION", value_enum, default_value_t = EscapedSlashesAction::KeepUnchanged)]
    pub path_with_escaped_slashes_action: EscapedSlashesAction,
}

/// What those who may write objects may take of a gateway that they share.
#[derive(Clone, Copy, Debug, Args)]
pub struct TenantArgs {
    /// Which routes serve a hostname that routes of several namespaces claim on one listener
    #[arg(long, env = "CLINGFISH_HOSTNAME_OWNERSHIP", value_enum, default_value_t = HostnameOwnership::Any)]
    pub hostname_ownership: HostnameOwnership,
    /// Most points of all rings (ringHash) together; one ring may have an eighth of them
    #[arg(long, env = "CLINGFISH_RING_POINTS", value_name = "N", default_value_t = TenantSettings::default().ring_points)]
    pub ring_points: u64,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people
    Text,
    /// A JSON object in each line
    Json,
}

// === impl LogFormat ===

impl From<LogFormat> for LineFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

// === impl ServeArgs ===

impl ServeArgs {
    /// The validated settings.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub fn settings(self, bind: Option<IpAddr>) -> Result<Settings, SettingsError> {
        RawSettings {
            workers: self.workers,
            admin: self.admin,
            log_format: self.log_format.into(),
            log_filter: self.log_level,
            access_log: self.access_log,
            access_log_template: self.access_log_template,
            tracing: self.tracing.into(),
            access_log_conditions: self.access_log_conditions.into(),
            bind,
            state_directory: None,
            drain_min: self.drain_min,
            drain_max: self.drain_max,
            use_remote_address: self.use_remote_address,
            xff_num_trusted_hops: self.xff_num_trusted_hops,
            proxy_protocol_trusted_ips: self.proxy_protocol_trusted_ips,
            server_header: self.server_header,
            backends: self.backends.into(),
            ceilings: self.ceilings.into(),
            path: self.path.into(),
            headers_with_underscores: self.headers_with_underscores_action,
            tenants: self.tenants.into(),
        }
        .validate()
    }
}

/// A network, or one address. One of IPv4 may be written as it looks to a socket of IPv6.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse().or_else(|_| address());
    let network: IpNet = network.map_err(|_| format!("{text:?} is no network; expected for example 10.0.0.0/8, or one IP address"))?;
    let (IpAddr::V4(mapped), Some(length)) = (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) else {
        return Ok(network);
    };
    Ok(Ipv4Net::new(mapped, length).map_or(network, IpNet::V4))
}

// === impl PathArgs ===

impl From<PathArgs> for PathSettings {
    fn from(arguments: PathArgs) -> Self {
        Self { merge_slashes: arguments.merge_slashes, escaped_slashes: arguments.path_with_escaped_slashes_action }
    }
}

// === impl TenantArgs ===

impl From<TenantArgs> for TenantSettings {
    fn from(arguments: TenantArgs) -> Self {
        Self { hostname_ownership: arguments.hostname_ownership, ring_points: arguments.ring_points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_of_the_addresses_that_clients_have() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for wrong in ["", "10.0.0.0/33", "abc", "10.0.0.0/8 "] {
            assert!(network(wrong).unwrap_err().contains("expected for example 10.0.0.0/8"), "{wrong}");
        }
    }
}
