//! `clingfish crds`: prints the CRDs, or brings a cluster's to these.

use std::io::Write;

use crate::api;
use crate::cli::CrdsArgs;
use crate::controller::{CrdTurn, apply_crds};

use super::{error::CommandError, serving::control_runtime, verdict::Verdict};

/// Prints or applies. A CRD that must not be replaced is a rejection.
///
/// # Errors
/// Output fails, or the API server does not answer or refuses.
pub(super) fn run(arguments: CrdsArgs, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let odd = |error: api::CrdError| CommandError::Message(format!("the CRDs cannot be shown: {error}; please report this"));
    if !arguments.apply {
        out.write_all(api::crds_yaml().map_err(odd)?.as_bytes())?;
        return Ok(Verdict::Accepted);
    }
    let crds = api::crd_values().map_err(odd)?;
    let turns = control_runtime()?.block_on(apply_crds(&crds, arguments.dry_run));
    let turns = turns.map_err(|error| CommandError::Message(error.to_string()))?;
    for (name, turn) in &turns {
        writeln!(out, "{name}: {}", words(turn, arguments.dry_run))?;
    }
    let is_refused = turns.iter().any(|(_, turn)| matches!(turn, CrdTurn::Refuse(_)));
    Ok(if is_refused { Verdict::Rejected } else { Verdict::Accepted })
}

fn words(turn: &CrdTurn, dry_run: bool) -> String {
    match turn {
        CrdTurn::Create if dry_run => "would be created".to_owned(),
        CrdTurn::Create => "created".to_owned(),
        CrdTurn::Same => "unchanged".to_owned(),
        CrdTurn::Change(changes) if dry_run => format!("would change: {}", changes.join("; ")),
        CrdTurn::Change(changes) => format!("changed: {}", changes.join("; ")),
        CrdTurn::Refuse(why) => format!("left as it is: {why}"),
    }
}
