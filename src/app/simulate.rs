//! `clingfish simulate`: what a change of hosts or weights would move.

use std::{fmt::Display, io::Write, path::Path, sync::Arc};

use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::admin::{SimulateRequest, SplitRequest, rollout_in, simulate_in, split_in};
use crate::cli::{ExplainOutput, SimulateArgs};
use crate::plan::{Rollout, RolloutReport, SimulationReport};
use crate::settings::{ClientSettings, Source, TenantSettings};
use crate::snapshot::{BackendName, Cluster};
use crate::translate::{Options, cluster_of};

use super::{client::AdminClient, error::CommandError, serving::control_runtime, source};

/// Simulates.
pub(super) fn run(arguments: SimulateArgs, out: &mut impl Write) -> Result<(), CommandError> {
    if let Some(route) = arguments.backend.route.clone() {
        return run_split(route, arguments, out);
    }
    let request = SimulateRequest {
        upstream: arguments.backend.upstream,
        service: arguments.backend.service,
        scale: arguments.scale,
        add: arguments.add,
        remove: arguments.remove,
        weights: arguments.weight,
        drain: arguments.drain,
        rollout: arguments.rollout.then_some(Rollout { max_surge: arguments.max_surge, max_unavailable: arguments.max_unavailable }),
        keys: arguments.keys,
    };
    let source = arguments.source.source()?;
    if let Some(rollout) = request.rollout {
        let report: RolloutReport = report(source, &request, |cluster| rollout_in(&request, rollout, cluster))?;
        return tell(&report, arguments.output, out);
    }
    let report: SimulationReport = report(source, &request, |cluster| simulate_in(&request, cluster))?;
    tell(&report, arguments.output, out)
}

/// What is found of a cluster: of a directory here, of a running gateway there.
fn report<T: DeserializeOwned>(
    source: Source,
    request: &SimulateRequest,
    find: impl FnOnce(&Cluster) -> Result<T, String>,
) -> Result<T, CommandError> {
    match source {
        Source::Manifests(directory) => {
            let options = source::dry_options(None, &ClientSettings::default(), TenantSettings::default());
            let backend = request.backend().map_err(CommandError::Message)?;
            let cluster = cluster_in_directory(&directory, &options, &backend)?;
            find(&cluster).map_err(CommandError::Message)
        }
        Source::Admin(authority) => ask(&authority, request),
    }
}

/// Simulates other weights of a route's backends.
fn run_split(route: String, arguments: SimulateArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let request = SplitRequest { route, rule: arguments.rule, split: arguments.split, keys: arguments.keys };
    let report: SimulationReport = match arguments.source.source()? {
        Source::Manifests(directory) => {
            let options = source::dry_options(None, &ClientSettings::default(), TenantSettings::default());
            let translated = source::translate_directory(&directory, &options)?;
            split_in(&request, &translated.translation.snapshot).map_err(CommandError::Message)?
        }
        Source::Admin(authority) => ask(&authority, &request)?,
    };
    tell(&report, arguments.output, out)
}

fn tell(report: &(impl Serialize + Display), output: ExplainOutput, out: &mut impl Write) -> Result<(), CommandError> {
    match output {
        ExplainOutput::Json => {
            let text = serde_json::to_string(report).map_err(|error| CommandError::Message(error.to_string()))?;
            writeln!(out, "{text}")?;
        }
        ExplainOutput::Text => writeln!(out, "{}", report.to_string().trim_end())?,
    }
    Ok(())
}

/// The cluster of a backend, whether or not a route uses it.
fn cluster_in_directory(directory: &Path, options: &Options, backend: &BackendName) -> Result<Arc<Cluster>, CommandError> {
    let resources = source::read(directory)?.resources;
    cluster_of(&resources, &source::observed(), options, backend).map_err(|why| CommandError::Message(why.to_string()))
}

fn ask<T: DeserializeOwned>(authority: &str, request: &impl Serialize) -> Result<T, CommandError> {
    let question = serde_json::to_string(request).map_err(|error| CommandError::Message(error.to_string()))?;
    let answer = control_runtime()?.block_on(async {
        let mut client = AdminClient::connect(authority).await?;
        client.post("/simulate", question).await
    });
    let (status, body) = answer.map_err(CommandError::Message)?;
    let unreadable =
        || CommandError::Message(format!("the admin port {authority} answers {status}; is it one of Clingfish, of this version?"));
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|_| unreadable());
    }
    let refusal: Value = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    let error = refusal.get("error").and_then(Value::as_str).ok_or_else(unreadable)?;
    Err(CommandError::Message(error.to_owned()))
}
