//! A report as a page for people, or as JSON for scripts.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::base::Message;

use super::{
    objects::count,
    report::{Check, Finding, Outcome, Report, Verdict},
};

/// Findings of a check that the page shows.
const SHOWN: usize = 6;

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A page.
    Text,
    /// A JSON object with everything.
    Json,
}

/// The report in this format.
pub fn write(report: &Report, format: Format) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match format {
        Format::Text => page(report, &mut text),
        Format::Json => writeln!(text, "{:#}", json(report)),
    };
    text
}

fn page(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "{}\n", report.install)?;
    for (check, outcome) in &report.outcomes {
        let mark = match (outcome.findings.is_empty(), outcome.unasked.is_empty()) {
            (false, _) => "WRONG",
            (true, false) => "?",
            (true, true) => "good",
        };
        write!(out, "{mark:<7}{:<13}", check.as_str())?;
        match mark {
            "good" => writeln!(out, "{}", Message::from(outcome.looked_at.as_str()))?,
            "?" => writeln!(out, "could not be asked")?,
            _ => writeln!(out, "{}", count(outcome.findings.len(), "finding"))?,
        }
        for Finding { object, what, to_do } in outcome.findings.iter().take(SHOWN) {
            writeln!(out, "       - {object}: {what}\n         > {to_do}")?;
        }
        if let Some(more) = outcome.findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(out, "       - and {more} more: --output json has them all")?;
        }
        for why in &outcome.unasked {
            writeln!(out, "       ? {why}")?;
        }
    }
    let findings: usize = report.outcomes.iter().map(|(_, outcome)| outcome.findings.len()).sum();
    let unasked: usize = report.outcomes.iter().map(|(_, outcome)| outcome.unasked.len()).sum();
    match report.verdict() {
        Verdict::Good => writeln!(out, "\nNothing is wrong."),
        Verdict::Findings if unasked > 0 => {
            writeln!(out, "\n{}; {} could not be asked.", count(findings, "finding"), count(unasked, "question"))
        }
        Verdict::Findings => writeln!(out, "\n{}.", count(findings, "finding")),
        Verdict::Unasked => writeln!(out, "\nNothing wrong was found, but {} could not be asked.", count(unasked, "question")),
    }
}

fn json(report: &Report) -> Value {
    let verdict = match report.verdict() {
        Verdict::Good => "good",
        Verdict::Findings => "findings",
        Verdict::Unasked => "unasked",
    };
    let checks: Vec<Value> = report.outcomes.iter().map(|(check, outcome)| check_json(*check, outcome)).collect();
    json!({"install": report.install, "verdict": verdict, "checks": checks})
}

fn check_json(check: Check, outcome: &Outcome) -> Value {
    let finding = |finding: &Finding| json!({"object": finding.object, "what": finding.what, "to_do": finding.to_do});
    let findings: Vec<Value> = outcome.findings.iter().map(finding).collect();
    let verdict = match (outcome.findings.is_empty(), outcome.unasked.is_empty()) {
        (false, _) => "findings",
        (true, false) => "unasked",
        (true, true) => "good",
    };
    json!({"check": check.as_str(), "verdict": verdict, "findings": findings, "unasked": outcome.unasked})
}
