//! `clingfish simulate`: what a change of hosts or weights would move.

use std::io::Write;

use http::StatusCode;
use serde_json::Value;

use crate::admin::{SimulateRequest, simulate_in};
use crate::cli::{ExplainOutput, SimulateArgs};
use crate::settings::{ClientSettings, Source};

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
            let (translation, _) = source::translate_directory(&directory, &source::dry_options(None, &ClientSettings::default()))?;
            let report = simulate_in(&request, &translation.snapshot).map_err(CommandError::Message)?;
            serde_json::to_value(&report).map_err(|error| CommandError::Message(error.to_string()))?
        }
        Source::Admin(authority) => ask(&authority, &request)?,
    };
    match arguments.output {
        ExplainOutput::Json => writeln!(out, "{report}")?,
        ExplainOutput::Text => out.write_all(text(&report).as_bytes())?,
    }
    Ok(())
}

fn ask(authority: &str, request: &SimulateRequest) -> Result<Value, CommandError> {
    let question = serde_json::to_string(request).map_err(|error| CommandError::Message(error.to_string()))?;
    let answer = control_runtime()?.block_on(async {
        let mut client = AdminClient::connect(authority).await?;
        client.post("/simulate", question).await
    });
    let (status, body) = answer.map_err(CommandError::Message)?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|_| CommandError::Message(format!("the admin port {authority} answers {status}; is it one of Clingfish?")))?;
    match status {
        StatusCode::OK => Ok(value),
        _ => Err(CommandError::Message(value.get("error").and_then(Value::as_str).unwrap_or("refused").to_owned())),
    }
}

/// A report for people.
fn text(report: &Value) -> String {
    let percent = |value: Option<&Value>| value.and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
    let mut out = format!(
        "{}: {} keys tried\nmoved              {:>9}\nmoved needlessly   {:>9}\n\n{:<24}{:>10}{:>10}  pod\n",
        report.get("backend").and_then(Value::as_str).unwrap_or_default(),
        report.get("keys").unwrap_or(&Value::Null),
        percent(report.get("moved")),
        percent(report.get("moved_needlessly")),
        "host",
        "before",
        "after",
    );
    for host in report.get("hosts").and_then(Value::as_array).into_iter().flatten() {
        let name = |key: &str| host.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let line = format!("{:<24}{:>10}{:>10}  {}\n", name("host"), percent(host.get("before")), percent(host.get("after")), name("pod"));
        out.push_str(&line);
    }
    for note in report.get("notes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        out.push_str(&format!("note: {note}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_for_people() {
        let report = json!({
            "backend": "Upstream a/b", "keys": 1000, "moved": 0.25, "moved_needlessly": 0.0,
            "hosts": [{"host": "10.0.0.1:80", "pod": "a/p", "before": 1.0, "after": 0.75}, {"host": "10.0.0.2:80", "pod": null, "before": null, "after": 0.25}],
            "notes": ["invented"]
        });
        let expected = "\
Upstream a/b: 1000 keys tried
moved                25.00 %
moved needlessly      0.00 %

host                        before     after  pod
10.0.0.1:80               100.00 %   75.00 %  a/p
10.0.0.2:80                      -   25.00 %  -
note: invented
";
        assert_eq!(text(&report), expected);
    }
}
