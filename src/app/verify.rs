//! `clingfish verify`: whether the requests of an Envoy access log would go to the same hosts.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _, Write},
    path::Path,
    process::ExitCode,
};

use crate::cli::{ExplainOutput, VerifyArgs};
use crate::plan::{ExplainAnswer, Verification, read_line};

use super::{
    error::CommandError,
    explain::{ExplainSource, options},
};

/// Longest line that is read.
const MOST_LINE: u64 = 1 << 20;

/// Verifies. The exit code is 1 if a request would go elsewhere.
pub(super) fn run(arguments: VerifyArgs, out: &mut impl Write) -> Result<ExitCode, CommandError> {
    let options = options(&arguments.profile)?;
    let mut source = ExplainSource::open(arguments.source.source()?, &options)?;
    let mut log = open(&arguments.log)?;
    let mut found = Verification::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if log.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            verify(number, &text, arguments.listener_port, &mut source, &mut found)?;
        }
    }
    match arguments.output {
        ExplainOutput::Json => {
            let text = serde_json::to_string(&found).map_err(|error| CommandError::Message(error.to_string()))?;
            writeln!(out, "{text}")?;
        }
        ExplainOutput::Text => write!(out, "{found}")?,
    }
    Ok(if found.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verify(number: u64, line: &str, port: Option<u16>, source: &mut ExplainSource, found: &mut Verification) -> Result<(), CommandError> {
    let logged = match read_line(line, port) {
        Ok(logged) => logged,
        Err(why) => {
            found.count_unreadable(number, &why);
            return Ok(());
        }
    };
    let question = serde_json::to_string(&logged.request).map_err(|error| CommandError::Message(error.to_string()))?;
    match serde_json::from_str(&source.ask(&question)?) {
        Ok(ExplainAnswer::Decision(decision)) => found.count(number, &logged, &decision),
        Ok(ExplainAnswer::Error { error }) => found.count_unreadable(number, &error),
        Err(error) => return Err(CommandError::Message(format!("the answer cannot be read: {error}; is the gateway of this version?"))),
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, CommandError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, io::stdin())));
    }
    let file = File::open(path)
        .map_err(|error| CommandError::Message(format!("{}: {error}; expected an access log of Envoy, or -", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
}
