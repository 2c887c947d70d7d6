//! `clingfish simulate`: what a change of hosts or weights would move.

use std::{io::Write, path::Path, sync::Arc};

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::admin::{SimulateRequest, SplitRequest, simulate_in, split_in};
use crate::cli::{ExplainOutput, SimulateArgs};
use crate::plan::SimulationReport;
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
        keys: arguments.keys,
    };
    let report = match arguments.source.source()? {
        Source::Manifests(directory) => {
            let options = source::dry_options(None, &ClientSettings::default(), TenantSettings::default());
            let backend = request.backend().map_err(CommandError::Message)?;
            let cluster = cluster_in_directory(&directory, &options, &backend)?;
            simulate_in(&request, &cluster).map_err(CommandError::Message)?
        }
        Source::Admin(authority) => ask(&authority, &request)?,
    };
    tell(&report, arguments.output, out)
}

/// Simulates other weights of a route's backends.
fn run_split(route: String, arguments: SimulateArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let request = SplitRequest { route, rule: arguments.rule, split: arguments.split, keys: arguments.keys };
    let report = match arguments.source.source()? {
        Source::Manifests(directory) => {
            let options = source::dry_options(None, &ClientSettings::default(), TenantSettings::default());
            let translated = source::translate_directory(&directory, &options)?;
            split_in(&request, &translated.translation.snapshot).map_err(CommandError::Message)?
        }
        Source::Admin(authority) => ask(&authority, &request)?,
    };
    tell(&report, arguments.output, out)
}

fn tell(report: &SimulationReport, output: ExplainOutput, out: &mut impl Write) -> Result<(), CommandError> {
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

fn ask(authority: &str, request: &impl Serialize) -> Result<SimulationReport, CommandError> {
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
