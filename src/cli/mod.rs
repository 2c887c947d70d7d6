//! Commands and flags as typed by the user.

mod access_log;
mod backends;
mod ceilings;
mod chart_test;
mod doctor;
mod duration;
mod migrate;
mod release;
mod run;
mod serve;
mod tracing;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use access_log::AccessLogArgs;
pub use backends::BackendArgs;
pub use ceilings::CeilingArgs;
pub use chart_test::{ChartTestArgs, ChartTestSide, StickyArgs};
pub use doctor::{DoctorArgs, DoctorOutput};
pub use migrate::{MigrateArgs, MigrateFrom, MigrateGlooArgs, MigrateOthersArgs, MigrateToArgs};
pub use release::ReleaseArgs;
pub use run::RunArgs;
pub use serve::{LogFormat, PathArgs, ServeArgs, TenantArgs};
pub use tracing::TracingArgs;

use crate::settings::{HeadersWithUnderscores, SettingsError, Source, UpstreamCrossNamespace, ValidateAs};

/// A Kubernetes Gateway API implementation that keeps every session on its pod.
#[derive(Debug, Parser)]
#[command(name = "clingfish", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the resources of a Kubernetes cluster, write statuses, and keep a Service in front of each Gateway
    Run(Box<RunArgs>),
    /// Serve the resources of a directory of Kubernetes YAML, without a cluster; changes take effect at once
    Standalone(StandaloneArgs),
    /// Serve the session affinity guide on loopback with three small backends, and print the commands to try
    Demo(DemoArgs),
    /// Say which listener, rule, key, hash and pod a request gets, and why
    Explain(ExplainArgs),
    /// Say which share of the sessions a change of pods or weights would move
    Simulate(SimulateArgs),
    /// Say whether the requests of an Envoy access log would go to the same pods
    Verify(VerifyArgs),
    /// Say what a cluster would accept of a directory, with reasons; the exit code is 1 if anything is rejected
    Validate(ValidateArgs),
    /// Say what is wrong with an install in a cluster and what to do, on one page; the exit code is 1 if anything is wrong, 2 if it could not be asked
    Doctor(DoctorArgs),
    /// Write what lets the routes of another gateway be served here too, and say what is lost on the way
    Migrate(MigrateArgs),
    /// Say of everything that an install serves in a cluster that nobody serves it any more: before the install is removed
    Release(ReleaseArgs),
    /// Play one side of the test of the chart
    #[command(hide = true)]
    ChartTest(ChartTestArgs),
    /// Print the CustomResourceDefinitions of Upstream, RouteOption, AffinityPolicy, AffinitySlots and GatewayParameters, or bring a cluster's to these
    Crds(CrdsArgs),
}

/// Flags of `standalone`.
#[derive(Clone, Debug, Args)]
pub struct StandaloneArgs {
    /// Directory of *.yaml, *.yml and *.json files
    #[arg(long, env = "CLINGFISH_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// Address that listeners listen on if their Gateway has no spec.addresses [default: 0.0.0.0]
    #[arg(long, env = "CLINGFISH_BIND", value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// Where the last good versions of objects whose newest one cannot be read, and maps of slots, outlive a restart; Secrets never [default: nowhere]
    #[arg(long, env = "CLINGFISH_STATE_DIRECTORY", value_name = "DIR")]
    pub state_directory: Option<PathBuf>,
    /// Keys by which sessions are held on their pods (hold: WhileAlive): one or two lines of 64 hexadecimal digits, the first makes tags [default:
    /// a file in the state directory, which is made, else keys of this process alone]
    #[arg(long, env = "CLINGFISH_AFFINITY_KEYS", value_name = "FILE")]
    pub affinity_keys: Option<PathBuf>,
    /// What all serving commands share.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Flags of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Play a scene instead: customers with sessions, and pods that come, go, roll and drain by key press
    #[arg(long, env = "CLINGFISH_AFFINITY")]
    pub affinity: bool,
    /// Port of the gateway on 127.0.0.1; 0 picks a free one
    #[arg(long, env = "CLINGFISH_PORT", value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// What all serving commands share.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Where resources come from.
#[derive(Clone, Debug, Args)]
pub struct SourceArgs {
    /// Directory of Kubernetes YAML
    #[arg(long, env = "CLINGFISH_MANIFESTS", value_name = "DIR", conflicts_with = "admin")]
    pub manifests: Option<PathBuf>,
    /// Admin address of a running gateway, for example http://127.0.0.1:9901
    #[arg(long, env = "CLINGFISH_ADMIN", value_name = "URL")]
    pub admin: Option<String>,
}

/// Overrides of what a GatewayClass says about clients, for commands that translate a directory by themselves.
#[derive(Clone, Debug, Args)]
pub struct ProfileArgs {
    /// As the gateway's flag of this name; with --manifests only
    #[arg(long, env = "CLINGFISH_USE_REMOTE_ADDRESS", value_name = "BOOL", action = ArgAction::Set)]
    pub use_remote_address: Option<bool>,
    /// As the gateway's flag of this name; with --manifests only
    #[arg(long, env = "CLINGFISH_XFF_NUM_TRUSTED_HOPS", value_name = "N", default_value_t = 0)]
    pub xff_num_trusted_hops: u32,
    /// As the gateway's flag of this name; with --manifests only
    #[arg(long, env = "CLINGFISH_BIND", value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// As the gateway's flags
    #[command(flatten)]
    pub path: PathArgs,
    /// As the gateway's flag of this name; with --manifests only
    #[arg(long, env = "CLINGFISH_HEADERS_WITH_UNDERSCORES_ACTION", value_enum, default_value_t = HeadersWithUnderscores::DropGuarded)]
    pub headers_with_underscores_action: HeadersWithUnderscores,
    /// As the gateway's flags
    #[command(flatten)]
    pub tenants: TenantArgs,
}

/// Flags of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Where the resources are.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How clients are seen.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Format of the answer
    #[arg(long, value_enum, default_value_t = ExplainOutput::Text)]
    pub output: ExplainOutput,
    /// The Gateway that gets the request, if several have the URL's port
    #[arg(long, value_name = "NS/NAME")]
    pub gateway: Option<String>,
    /// Explain many requests: a file, or - for standard input, with a JSON object in each line, such as {"method": "GET", "url": "http://a.example/", "headers": [["cookie", "a=b"]], "source": "10.0.0.1"}; only url is needed. The answers are JSON, one in each line, in the same order
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "url", "header", "source_address", "gateway", "output", "tcp", "udp"])]
    pub requests: Option<PathBuf>,
    /// Method of the request
    #[arg(value_name = "METHOD", required_unless_present_any = ["requests", "tcp", "udp"])]
    pub method: Option<String>,
    /// URL of the request: its port picks the listener, its host is the Host header
    #[arg(value_name = "URL", required_unless_present_any = ["requests", "tcp", "udp"])]
    pub url: Option<String>,
    /// A header of the request, as in curl; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Explain a connection to this port of a listener of protocol TCP or, with --sni, TLS
    #[arg(long, value_name = "PORT", conflicts_with_all = ["method", "url", "header", "udp"])]
    pub tcp: Option<u16>,
    /// The server name that the connection asks for
    #[arg(long, value_name = "NAME", requires = "tcp")]
    pub sni: Option<String>,
    /// Explain a flow of datagrams to this port of a listener of protocol UDP
    #[arg(long, value_name = "PORT", conflicts_with_all = ["method", "url", "header"])]
    pub udp: Option<u16>,
    /// Address of the client [default: 127.0.0.1]
    #[arg(long = "source", value_name = "IP[:PORT]")]
    pub source_address: Option<String>,
    /// Address at which the gateway accepted the connection; a generated cookie depends on it and on --source, each with its port
    #[arg(long = "local", value_name = "IP:PORT")]
    pub local: Option<String>,
}

/// A backend, used by a route or not.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SimulatedBackendArgs {
    /// The Upstream whose pods change
    #[arg(long, value_name = "NS/NAME")]
    pub upstream: Option<String>,
    /// The Service whose pods change
    #[arg(long, value_name = "NS/NAME:PORT")]
    pub service: Option<String>,
    /// The route whose weights change, with --split
    #[arg(long, value_name = "NS/NAME")]
    pub route: Option<String>,
}

/// Flags of `simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Where the resources are.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The backend whose pods change.
    #[command(flatten)]
    pub backend: SimulatedBackendArgs,
    /// Change the number of pods to this
    #[arg(long, value_name = "N")]
    pub scale: Option<usize>,
    /// Add this pod; may be repeated
    #[arg(long, value_name = "IP:PORT")]
    pub add: Vec<SocketAddr>,
    /// Remove this pod; may be repeated
    #[arg(long, value_name = "IP:PORT")]
    pub remove: Vec<SocketAddr>,
    /// Give this pod this weight; may be repeated
    #[arg(long, value_name = "IP:PORT=WEIGHT", value_parser = weight)]
    pub weight: Vec<(SocketAddr, u32)>,
    /// Ask this pod to end: its name, NS/NAME or IP:PORT
    #[arg(long, value_name = "POD")]
    pub drain: Option<String>,
    /// Replace all pods by a rolling update, and compare the ways to keep sessions meanwhile
    #[arg(long, conflicts_with_all = ["scale", "add", "remove", "weight", "drain", "route"])]
    pub rollout: bool,
    /// With --rollout: how many pods there may be beyond their number
    #[arg(long, value_name = "N", default_value_t = 1, requires = "rollout")]
    pub max_surge: usize,
    /// With --rollout: how many of their number may be missing
    #[arg(long, value_name = "N", default_value_t = 0, requires = "rollout")]
    pub max_unavailable: usize,
    /// Weights of the route's backendRefs, in their order, where an AffinityPolicy splits by key
    #[arg(long, value_name = "WEIGHT:WEIGHT", value_delimiter = ':', requires = "route", conflicts_with_all = ["scale", "add", "remove", "weight", "drain"])]
    pub split: Vec<u32>,
    /// With --route: index of the rule
    #[arg(long, value_name = "N", default_value_t = 0, requires = "route")]
    pub rule: u16,
    /// Number of session keys to try [default: 100000]
    #[arg(long, value_name = "N")]
    pub keys: Option<usize>,
    /// Format of the answer
    #[arg(long, value_enum, default_value_t = ExplainOutput::Text)]
    pub output: ExplainOutput,
}

/// Flags of `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// An access log of Envoy, or - for standard input: lines of the default format, or JSON objects as docs/verify.md has them
    #[arg(value_name = "ACCESS_LOG")]
    pub log: PathBuf,
    /// Where the resources are.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How clients are seen.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Port of the listener that got the requests, where the log does not tell it or Envoy listens on another one
    #[arg(long, value_name = "PORT")]
    pub listener_port: Option<u16>,
    /// Format of the answer
    #[arg(long, value_enum, default_value_t = ExplainOutput::Text)]
    pub output: ExplainOutput,
}

/// Flags of `validate`.
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// Directory of Kubernetes YAML
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Format of the answer
    #[arg(long, value_enum, default_value_t = ValidateOutput::Text)]
    pub output: ValidateOutput,
    /// Which command to answer for: `run` or `standalone`
    #[arg(long = "as", value_enum, default_value_t = ValidateAs::Cluster)]
    pub for_whom: ValidateAs,
    /// As the flag of `run`: Upstreams of this namespace may name Services of any other
    #[arg(long, env = "CLINGFISH_INSTALL_NAMESPACE", value_name = "NAMESPACE", default_value = "clingfish-system")]
    pub install_namespace: String,
    /// As the flag of `run`: permissions as in Gloo Gateway
    #[arg(long, env = "CLINGFISH_GLOO", value_name = "BOOL", action = ArgAction::Set, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub gloo: bool,
    /// As the flag of `run`: whether an Upstream may name a Service of another namespace [default: any with --gloo, else release-namespace]
    #[arg(long, env = "CLINGFISH_UPSTREAM_CROSS_NAMESPACE", value_enum)]
    pub upstream_cross_namespace: Option<UpstreamCrossNamespace>,
    /// As the gateway's flags
    #[command(flatten)]
    pub tenants: TenantArgs,
}

/// Flags of `crds`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CrdsArgs {
    /// Write them into the cluster that KUBECONFIG names, by server-side apply, and say what changes; none is replaced by an older one
    #[arg(long)]
    pub apply: bool,
    /// Say what would change, and write nothing
    #[arg(long, requires = "apply")]
    pub dry_run: bool,
}

/// Format of an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainOutput {
    /// Text for people
    Text,
    /// A JSON object
    Json,
}

/// Format of a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValidateOutput {
    /// Text for people
    Text,
    /// Every object's status, as YAML documents
    Yaml,
}

// === impl SourceArgs ===

impl SourceArgs {
    /// The validated source. A directory wins over an admin address that only the environment gives.
    ///
    /// # Errors
    /// Neither is given, or the URL is malformed.
    pub fn source(self) -> Result<Source, SettingsError> {
        Source::new(self.manifests, self.admin.as_deref())
    }
}

/// `IP:PORT=WEIGHT`.
fn weight(text: &str) -> Result<(SocketAddr, u32), String> {
    let expected = || format!("{text:?} is no weight; expected IP:PORT=WEIGHT, for example 10.0.0.1:8080=2");
    let (address, weight) = text.rsplit_once('=').ok_or_else(expected)?;
    Ok((address.parse().map_err(|_| expected())?, weight.parse().map_err(|_| expected())?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn weights() {
        assert_eq!(weight("[::1]:80=3"), Ok(("[::1]:80".parse().unwrap(), 3)));
        for text in ["", "1.2.3.4=1", "1.2.3.4:80", "1.2.3.4:80=x"] {
            assert!(weight(text).is_err(), "{text}");
        }
    }

    #[test]
    fn commands_of_the_documentation_parse() {
        for line in [
            "run --gloo --service-type ClusterIP --pod-ips 10.0.0.1,fd00::1 --secret-namespaces a,b --service-annotations {} --admin-local 127.0.0.1:0",
            "run --gloo false --upstream-cross-namespace release-namespace --extra-services false",
            "run --service-labels {} --load-balancer-source-ranges 10.0.0.0/8,fd00::/8 --allocate-load-balancer-node-ports false",
            "standalone --manifests d --state-directory s --merge-slashes --path-with-escaped-slashes-action UNESCAPE_AND_FORWARD --bind 127.0.0.1 --workers 2 --access-log json --log-format json --drain-min 5s --use-remote-address false",
            "demo --access-log text --access-log-status 5xx,429 --access-log-min-duration 1s --access-log-flags UF,UH --access-log-sample 0.5",
            "demo --affinity --port 0",
            "demo --port 0 --admin 127.0.0.1:0 --access-log template --access-log-template %RESPONSE_CODE%",
            "demo --circuit-breaker-max-connections 9 --circuit-breaker-max-pending-requests 8 --circuit-breaker-max-requests 7",
            "demo --retry-budget-percent 50 --retry-budget-min-concurrency 0 --retry-body-bytes 1024",
            "demo --tracing-endpoint http://127.0.0.1:4317 --tracing-protocol grpc --tracing-sampler traceidratio --tracing-sampling-percentage 0.5",
            "run --tracing-headers authorization=x --tracing-protocol http/protobuf --tracing-service-name edge",
            "demo --http2-ping-interval 30s --http2-ping-timeout 5s",
            "demo --max-connections 10 --max-connections-per-listener 0 --max-tls-handshakes 5 --max-buffered-bytes 64Mi --max-heap-size 1Gi",
            "explain --manifests d GET http://httpbin.example:8080/headers -H cookie:a=b --source 10.0.0.1:1234",
            "explain --admin http://127.0.0.1:9901 --requests -",
            "explain --manifests d --output json --gateway gloo-system/http GET http://a/",
            "simulate --manifests d --upstream gloo-system/httpbin --scale 4 --add 1.2.3.4:80 --remove 1.2.3.5:80 --weight 1.2.3.6:80=2",
            "simulate --manifests d --service app/web:80 --remove 1.2.3.4:80",
            "simulate --manifests d --service app/web:80 --drain web-7d4f",
            "simulate --manifests d --service app/web:80 --rollout --max-surge 2 --max-unavailable 1",
            "validate d --output yaml --hostname-ownership first-namespace --ring-points 100000",
            "validate --as standalone d",
            "verify access.log --manifests d --listener-port 80",
            "verify - --admin http://127.0.0.1:9901 --output json",
            "validate --gloo d",
            "doctor",
            "doctor -n gloo-system --output json",
            "validate --install-namespace gloo-system --upstream-cross-namespace grant d",
            "crds",
        ] {
            let words = std::iter::once("clingfish").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in ["", "explain --manifests d", "explain --manifests d --admin http://a:1 GET http://a/", "validate", "standalone"] {
            let words = std::iter::once("clingfish").chain(line.split(' ').filter(|word| !word.is_empty()));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
