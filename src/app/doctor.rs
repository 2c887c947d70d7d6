//! `clingfish doctor`: asks the API server and every pod, and says what is wrong and what to do.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::cli::{DoctorArgs, DoctorOutput};
use crate::controller::survey;
use crate::doctor::{Format, Verdict, diagnose, write};

use super::{error::CommandError, serving::control_runtime};

/// The exit code where something could not be asked. Findings are 1, and nothing wrong is 0.
const UNASKED: u8 = 2;

/// Writes the page; the exit code is for scripts.
pub(super) fn run(arguments: &DoctorArgs, out: &mut impl Write) -> Result<ExitCode, CommandError> {
    let gathered = match control_runtime()?.block_on(survey(arguments.namespace.as_deref())) {
        Ok(gathered) => gathered,
        Err(error) => {
            writeln!(io::stderr(), "error: {error}")?;
            return Ok(ExitCode::from(UNASKED));
        }
    };
    let report = diagnose(&gathered);
    let format = match arguments.output {
        DoctorOutput::Text => Format::Text,
        DoctorOutput::Json => Format::Json,
    };
    out.write_all(write(&report, format).as_bytes())?;
    Ok(match report.verdict() {
        Verdict::Good => ExitCode::SUCCESS,
        Verdict::Findings => ExitCode::FAILURE,
        Verdict::Unasked => ExitCode::from(UNASKED),
    })
}
