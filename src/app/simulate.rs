//! `clingfish simulate`: what a change of hosts or weights would move.

use std::io::Write;

use http::StatusCode;
use serde_json::Value;

use crate::admin::{SimulateRequest, simulate_in};
use crate::cli::{ExplainOutput, SimulateArgs};
use crate::plan::SimulationReport;
use crate::settings::{ClientSettings, Source, TenantSettings};

use super::{
    client::AdminClient,
    command::{CommandError, control_runtime},
    source,
};

/// Simulates.
pub(super) fn run(arguments: SimulateArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let request = SimulateRequest {
        upstream: arguments.upstream,
        scale: arguments.scale,
        add: arguments.add,
        remove: arguments.remove,
        weights: arguments.weight,
        keys: arguments.keys,
    };
    let report = match arguments.source.source()? {
        Source::Manifests(directory) => {
            let translated =
                source::translate_directory(&directory, &source::dry_options(None, &ClientSettings::default(), TenantSettings::default()))?;
            simulate_in(&request, &translated.translation.snapshot).map_err(CommandError::Message)?
        }
        Source::Admin(authority) => ask(&authority, &request)?,
    };
    match arguments.output {
        ExplainOutput::Json => {
            let text = serde_json::to_string(&report).map_err(|error| CommandError::Message(error.to_string()))?;
            writeln!(out, "{text}")?;
        }
        ExplainOutput::Text => writeln!(out, "{}", report.to_string().trim_end())?,
    }
    Ok(())
}

fn ask(authority: &str, request: &SimulateRequest) -> Result<SimulationReport, CommandError> {
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
