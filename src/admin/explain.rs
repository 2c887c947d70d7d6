//! `POST /explain` and `POST /simulate`: the same functions that the commands of these names call.

use std::{net::SocketAddr, sync::Arc};

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::base::{Kind, ObjectName};
use crate::plan::{
    self, ExplainAnswer, ExplainRequest, Explainer, ROLLOUT_KEYS, Rollout, RolloutReport, RuleName, SimulatedChange, SimulationReport,
};
use crate::snapshot::{BackendName, Cluster, Snapshot, TransportPort};

/// Keys that a simulation tries without being told a number.
pub const SIMULATED_KEYS: usize = 100_000;

/// Most keys that a simulation on the admin port may be told to try, since the next question waits for it.
const MOST_KEYS: usize = 1_000_000;

/// A change of a backend's hosts to try out: the body of `POST /simulate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateRequest {
    /// `NAMESPACE/NAME` of the Upstream; else `service` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// `NAMESPACE/NAME:PORT` of the Service; else `upstream` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Grow or shrink to this many hosts.
    pub scale: Option<usize>,
    /// Hosts that come.
    pub add: Vec<SocketAddr>,
    /// Hosts that go.
    pub remove: Vec<SocketAddr>,
    /// New weights by host.
    pub weights: Vec<(SocketAddr, u32)>,
    /// A pod that is asked to end: its address, its name or `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
    /// A rolling update, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Number of keys to try.
    pub keys: Option<usize>,
}

/// Other weights of a rule's backends to try out: another body of `POST /simulate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRequest {
    /// `NAMESPACE/NAME` of the route.
    pub route: String,
    /// Index of the rule.
    #[serde(default)]
    pub rule: u16,
    /// Weights of its backendRefs, in their order.
    pub split: Vec<u32>,
    /// Number of keys to try.
    #[serde(default)]
    pub keys: Option<usize>,
}

/// Explains one request.
pub(super) fn explain(question: &[u8], snapshot: &Snapshot, explainer: &mut Explainer) -> (StatusCode, String) {
    let answer = match serde_json::from_slice::<ExplainRequest>(question) {
        Ok(request) => explainer.explain(&request, snapshot),
        Err(error) => ExplainAnswer::Error {
            error: format!(
                "expected an object such as {{\"method\": \"GET\", \"url\": \"http://a.example/\", \"headers\": [[\"cookie\", \"a=b\"]]}}: {error}"
            ),
        },
    };
    let status = match &answer {
        ExplainAnswer::Decision(_) => StatusCode::OK,
        ExplainAnswer::Error { .. } => StatusCode::BAD_REQUEST,
    };
    (status, serde_json::to_string(&answer).unwrap_or_default() + "\n")
}

/// Reads the body of `POST /simulate`.
///
/// # Errors
/// What was expected.
pub(super) fn read_simulation(question: &[u8]) -> Result<(SimulateRequest, BackendName), String> {
    let request = serde_json::from_slice::<SimulateRequest>(question)
        .map_err(|error| format!("expected an object with upstream or service: {error}"))?;
    let request = check_keys(request)?;
    let backend = request.backend()?;
    Ok((request, backend))
}

/// Simulates a change of hosts or weights.
pub(super) fn simulate(request: &SimulateRequest, cluster: &Cluster) -> (StatusCode, String) {
    let told = match request.rollout {
        Some(rollout) => rollout_in(request, rollout, cluster).map(|report| serde_json::to_string(&report)),
        None => simulate_in(request, cluster).map(|report| serde_json::to_string(&report)),
    };
    match told {
        Ok(report) => (StatusCode::OK, report.unwrap_or_default() + "\n"),
        Err(error) => simulation_error(&error),
    }
}

/// Simulates a rolling update of a cluster's pods.
///
/// # Errors
/// Something else is asked for beside it, or it makes no sense for the cluster.
pub fn rollout_in(request: &SimulateRequest, rollout: Rollout, cluster: &Cluster) -> Result<RolloutReport, String> {
    let alone = SimulateRequest {
        upstream: request.upstream.clone(),
        service: request.service.clone(),
        rollout: request.rollout,
        keys: request.keys,
        ..SimulateRequest::default()
    };
    if *request != alone {
        return Err("rollout: expected no other change beside it".to_owned());
    }
    plan::simulate_rollout(cluster, rollout, request.keys.unwrap_or(ROLLOUT_KEYS)).map_err(|error| error.to_string())
}

/// The answer to a simulation that cannot be made.
pub(super) fn simulation_error(error: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, serde_json::json!({ "error": error }).to_string() + "\n")
}

/// The cluster of a backend that a route uses.
pub(super) fn cluster_in<'s>(snapshot: &'s Snapshot, backend: &BackendName) -> Option<&'s Arc<Cluster>> {
    snapshot.clusters.iter().flatten().find(|cluster| cluster.name == *backend)
}

/// The answer where other weights are asked about; `None`: something else is.
pub(super) fn simulate_split(question: &[u8], snapshot: &Snapshot) -> Option<(StatusCode, String)> {
    let request = serde_json::from_slice::<SplitRequest>(question).ok()?;
    let report = check_key_count(request.keys).and_then(|()| split_in(&request, snapshot));
    Some(match report {
        Ok(report) => (StatusCode::OK, serde_json::to_string(&report).unwrap_or_default() + "\n"),
        Err(error) => simulation_error(&error),
    })
}

/// Simulates other weights of a rule's backends, with as many keys as are asked for.
///
/// # Errors
/// There is no such rule, or the weights make no sense for it.
pub fn split_in(request: &SplitRequest, snapshot: &Snapshot) -> Result<SimulationReport, String> {
    let name = RuleName { route: request.route.clone(), rule: request.rule };
    let keys = request.keys.unwrap_or(SIMULATED_KEYS);
    plan::simulate_split(snapshot, &name, &request.split, keys).map_err(|error| error.to_string())
}

fn check_keys(request: SimulateRequest) -> Result<SimulateRequest, String> {
    check_key_count(request.keys).map(|()| request)
}

fn check_key_count(keys: Option<usize>) -> Result<(), String> {
    match keys {
        Some(keys) if keys > MOST_KEYS => Err(format!(
            "keys: {keys} are too many for a gateway that serves: expected at most {MOST_KEYS}; simulate with --manifests takes more"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Simulates a change of a cluster, with as many keys as are asked for.
///
/// # Errors
/// The change makes no sense for the cluster.
pub fn simulate_in(request: &SimulateRequest, cluster: &Cluster) -> Result<SimulationReport, String> {
    let change = SimulatedChange {
        scale: request.scale,
        add: request.add.clone(),
        remove: request.remove.clone(),
        weights: request.weights.clone(),
        drain: request.drain.clone(),
    };
    let keys = request.keys.unwrap_or(SIMULATED_KEYS);
    plan::simulate(cluster, &change, keys).map_err(|error| error.to_string())
}

// === impl SimulateRequest ===

impl SimulateRequest {
    /// The backend whose hosts change.
    ///
    /// # Errors
    /// Neither or both are named, or a name is none.
    pub fn backend(&self) -> Result<BackendName, String> {
        match (&self.upstream, &self.service) {
            (Some(upstream), None) => {
                let name = object_name(upstream).ok_or_else(|| format!("upstream: {upstream}; expected NAMESPACE/NAME"))?;
                Ok(BackendName { kind: Kind::Upstream, name, port: None, policy: None, is_persistent: false })
            }
            (None, Some(service)) => {
                let expected = || format!("service: {service}; expected NAMESPACE/NAME:PORT");
                let (name, port) = service.rsplit_once(':').ok_or_else(expected)?;
                let port = port.parse().ok().filter(|port: &TransportPort| port.number > 0).ok_or_else(expected)?;
                Ok(BackendName {
                    kind: Kind::Service,
                    name: object_name(name).ok_or_else(expected)?,
                    port: Some(port),
                    policy: None,
                    is_persistent: false,
                })
            }
            (Some(_), Some(_)) | (None, None) => Err("expected one of upstream and service".to_owned()),
        }
    }
}

fn object_name(text: &str) -> Option<ObjectName> {
    let (namespace, name) = text.split_once('/')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains('/')).then(|| ObjectName::new(namespace, name))
}
