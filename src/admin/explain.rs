//! `POST /explain` and `POST /simulate`: the same functions that the commands of these names call.

use std::net::SocketAddr;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::plan::{self, ExplainAnswer, ExplainRequest, Explainer, SimulatedChange, SimulationReport};
use crate::snapshot::Snapshot;

/// Keys that a simulation tries without being told a number.
pub const SIMULATED_KEYS: usize = 100_000;

/// Most keys that a simulation on the admin port may be told to try: it takes the time of whoever asks next.
const MOST_KEYS: usize = 1_000_000;

/// A change of an Upstream's hosts to try out: the body of `POST /simulate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateRequest {
    /// `NAMESPACE/NAME` of the Upstream.
    pub upstream: String,
    /// Grow or shrink to this many hosts.
    pub scale: Option<usize>,
    /// Hosts that come.
    pub add: Vec<SocketAddr>,
    /// Hosts that go.
    pub remove: Vec<SocketAddr>,
    /// New weights by host.
    pub weights: Vec<(SocketAddr, u32)>,
    /// Number of keys to try.
    pub keys: Option<usize>,
}

/// Explains one request.
pub(super) fn explain(question: &[u8], snapshot: &Snapshot, explainer: &mut Explainer) -> (StatusCode, String) {
    let answer = match serde_json::from_slice::<ExplainRequest>(question) {
        Ok(request) => explainer.explain(&request, snapshot),
        Err(error) => ExplainAnswer::Error { error: format!("expected an object with method, url, headers and source: {error}") },
    };
    let status = match &answer {
        ExplainAnswer::Decision(_) => StatusCode::OK,
        ExplainAnswer::Error { .. } => StatusCode::BAD_REQUEST,
    };
    (status, serde_json::to_string(&answer).unwrap_or_default() + "\n")
}

/// Simulates a change of hosts or weights.
pub(super) fn simulate(question: &[u8], snapshot: &Snapshot) -> (StatusCode, String) {
    let request = serde_json::from_slice::<SimulateRequest>(question).map_err(|error| format!("expected an object with upstream: {error}"));
    match request.and_then(check_keys).and_then(|request| simulate_in(&request, snapshot)) {
        Ok(report) => (StatusCode::OK, serde_json::to_string(&report).unwrap_or_default() + "\n"),
        Err(error) => (StatusCode::BAD_REQUEST, serde_json::json!({ "error": error }).to_string() + "\n"),
    }
}

fn check_keys(request: SimulateRequest) -> Result<SimulateRequest, String> {
    match request.keys {
        Some(keys) if keys > MOST_KEYS => Err(format!(
            "keys: {keys} are too many for a gateway that serves: expected at most {MOST_KEYS}; simulate with --manifests takes more"
        )),
        Some(_) | None => Ok(request),
    }
}

/// Simulates a change in a snapshot, with as many keys as are asked for.
///
/// # Errors
/// The Upstream is unknown or not used by any route, or the change makes no sense for it.
pub fn simulate_in(request: &SimulateRequest, snapshot: &Snapshot) -> Result<SimulationReport, String> {
    let wanted = format!("Upstream {}", request.upstream);
    let mut names: Vec<String> = snapshot.clusters.iter().flatten().map(|cluster| cluster.name.to_string()).collect();
    let cluster = snapshot.clusters.iter().flatten().find(|cluster| cluster.name.to_string() == wanted);
    let Some(cluster) = cluster else {
        names.retain(|name| name.starts_with("Upstream "));
        names.sort_unstable();
        let known = if names.is_empty() { "no route uses an Upstream".to_owned() } else { format!("routes use {}", names.join(", ")) };
        return Err(format!("{wanted} is not used by any route; {known}"));
    };
    let change = SimulatedChange {
        scale: request.scale,
        add: request.add.clone(),
        remove: request.remove.clone(),
        weights: request.weights.clone(),
    };
    let keys = request.keys.unwrap_or(SIMULATED_KEYS);
    plan::simulate(cluster, &change, keys).map_err(|error| error.to_string())
}
