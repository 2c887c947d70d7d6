//! `clingfish explain`: one request for people or as JSON, or many as lines of JSON.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Write},
    path::Path,
};

use http::StatusCode;
use serde_json::{Value, json};

use crate::cli::{ExplainArgs, ExplainOutput, ProfileArgs};
use crate::plan::{ExplainAnswer, Explainer};
use crate::settings::{ClientSettings, Source, TenantSettings};
use crate::snapshot::Snapshot;
use crate::translate::Options;

use super::{client::AdminClient, error::CommandError, serving::control_runtime, source};

/// Lines between two signs of progress.
const PROGRESS_LINES: usize = 20_000;

/// Most bytes kept from one line for the next: enough for hundreds of Upstreams with `maglev`.
const MOST_BYTES: usize = 1 << 28;

/// Where the answers come from.
pub(super) enum ExplainSource {
    /// A snapshot of our own.
    Snapshot { snapshot: std::sync::Arc<Snapshot>, explainer: Box<Explainer> },
    /// A running gateway.
    Admin { runtime: tokio::runtime::Runtime, client: Box<AdminClient> },
}

/// Explains.
pub(super) fn run(arguments: ExplainArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let question = arguments.requests.is_none().then(|| question(&arguments));
    let options = options(&arguments.profile)?;
    let mut source = ExplainSource::open(arguments.source.source()?, &options)?;
    match (arguments.requests, question) {
        (Some(requests), _) => explain_lines(&requests, &mut source, out),
        (None, Some(question)) => explain_one(&question?, arguments.output, &mut source, out),
        (None, None) => Ok(()),
    }
}

/// How a directory is translated for questions about requests.
///
/// # Errors
/// A flag is malformed.
pub(super) fn options(profile: &ProfileArgs) -> Result<Options, CommandError> {
    let client = ClientSettings {
        use_remote_address: profile.use_remote_address,
        xff_num_trusted_hops: profile.xff_num_trusted_hops,
        // Explained are requests, whose client is given.
        proxy_protocol_trusted_ips: Vec::new(),
        server_header: None,
        path: profile.path.into(),
        headers_with_underscores: profile.headers_with_underscores_action,
    };
    let tenants = TenantSettings::from(profile.tenants).validate()?;
    Ok(source::dry_options(profile.bind, &client, tenants))
}

fn explain_one(question: &Value, output: ExplainOutput, source: &mut ExplainSource, out: &mut impl Write) -> Result<(), CommandError> {
    let answer = source.ask(&question.to_string())?;
    let decision = match serde_json::from_str(&answer) {
        Ok(ExplainAnswer::Decision(decision)) => decision,
        Ok(ExplainAnswer::Error { error }) => return Err(CommandError::Message(error)),
        Err(error) => return Err(CommandError::Message(format!("the answer cannot be read: {error}; is the gateway of this version?"))),
    };
    match output {
        ExplainOutput::Json => writeln!(out, "{}", answer.trim_end())?,
        ExplainOutput::Text => writeln!(out, "{}", decision.to_string().trim_end())?,
    }
    Ok(())
}

fn explain_lines(requests: &Path, source: &mut ExplainSource, out: &mut impl Write) -> Result<(), CommandError> {
    let standard_input = requests == Path::new("-");
    let reader: Box<dyn BufRead> = if standard_input {
        Box::new(BufReader::with_capacity(1 << 16, io::stdin()))
    } else {
        let file = File::open(requests).map_err(|error| {
            CommandError::Message(format!("--requests {}: {error}; expected a file of JSON lines, or -", requests.display()))
        })?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let progress = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut answered = 0;
    for line in reader.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = source.ask(&line)?;
        out.write_all(answer.trim_end().as_bytes())?;
        out.write_all(b"\n")?;
        answered += 1;
        if progress && answered % PROGRESS_LINES == 0 {
            let _ = write!(io::stderr(), "\r{answered} explained");
        }
    }
    out.flush()?;
    if progress && answered >= PROGRESS_LINES {
        let _ = writeln!(io::stderr(), "\r{answered} explained");
    }
    Ok(())
}

/// The question that the flags ask.
fn question(arguments: &ExplainArgs) -> Result<Value, CommandError> {
    let mut headers = Vec::new();
    for header in &arguments.header {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| CommandError::Message(format!("-H {header:?}: expected NAME: VALUE, for example -H 'cookie: a=b'")))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let url = match (arguments.tcp, &arguments.sni, arguments.udp) {
        (Some(port), Some(name), _) => Some(format!("tls://{name}:{port}")),
        (Some(port), None, _) => Some(format!("tcp://gateway:{port}")),
        (None, _, Some(port)) => Some(format!("udp://gateway:{port}")),
        (None, _, None) => arguments.url.clone(),
    };
    let mut question = json!({ "method": arguments.method, "url": url, "headers": headers });
    let optional = [("source", &arguments.source_address), ("gateway", &arguments.gateway), ("local", &arguments.local)];
    if let Some(object) = question.as_object_mut() {
        for (key, value) in optional {
            if let Some(value) = value {
                object.insert(key.to_owned(), value.as_str().into());
            }
        }
    }
    Ok(question)
}

// === impl ExplainSource ===

impl ExplainSource {
    pub(super) fn open(source: Source, options: &Options) -> Result<Self, CommandError> {
        match source {
            Source::Manifests(directory) => {
                let translated = source::translate_directory(&directory, options)?;
                for notice in translated.file_notices().filter(|notice| notice.refused) {
                    let _ = writeln!(io::stderr(), "warning: {}", notice.text);
                }
                Ok(Self::Snapshot {
                    snapshot: translated.translation.snapshot,
                    explainer: Box::new(Explainer::new(fastrand::Rng::new(), MOST_BYTES)),
                })
            }
            Source::Admin(authority) => {
                let runtime = control_runtime()?;
                let client = runtime.block_on(AdminClient::connect(&authority)).map_err(CommandError::Message)?;
                Ok(Self::Admin { runtime, client: Box::new(client) })
            }
        }
    }

    /// The answer to a line of JSON, as JSON.
    pub(super) fn ask(&mut self, line: &str) -> Result<String, CommandError> {
        match self {
            Self::Snapshot { snapshot, explainer } => Ok(explainer.explain_line(line, snapshot)),
            Self::Admin { runtime, client } => {
                let (status, body) = runtime.block_on(client.post("/explain", line.to_owned())).map_err(CommandError::Message)?;
                let body = String::from_utf8_lossy(&body).into_owned();
                match status {
                    StatusCode::OK | StatusCode::BAD_REQUEST => Ok(body),
                    other => {
                        Err(CommandError::Message(format!("the admin port answers {other}: {}; is it one of Clingfish?", body.trim())))
                    }
                }
            }
        }
    }
}
