//! The process's own log: lines on standard error. What is logged, and in which form, can be changed while the process runs.

use std::{
    fmt,
    io::IsTerminal as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use crate::base::LineFormat;

/// The log cannot be set up, or not be changed so.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("log filter `{filter}`: {message}; expected a level (error, warn, info, debug) or target=level pairs separated by commas")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong.
        message: String,
    },
    /// Something else has set up a log in this process.
    #[error("the log is set up already")]
    AlreadySet,
}

/// What is added to every filter that does not speak of it: the Kubernetes client's own words on every failed request are left out, since what
/// failed is told where it matters.
const QUIET: &str = ",kube_client=off,kube_runtime=off";

/// The log of this process.
#[derive(Clone, Debug)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    is_json: Arc<AtomicBool>,
    /// The filter as it was given.
    given: Arc<Mutex<String>>,
}

/// Writes events in the form that is asked for at the moment.
struct EitherFormat {
    text: Format<Full>,
    json: Format<Json>,
    is_json: Arc<AtomicBool>,
}

/// Sets the log up for the whole process. `filter` is a level or `target=level` pairs.
///
/// # Errors
/// The filter is malformed, or a log is set up already.
pub fn init_logging(format: LineFormat, filter: &str) -> Result<Logging, LogError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let logging = Logging {
        filter: handle,
        is_json: Arc::new(AtomicBool::new(format == LineFormat::Json)),
        given: Arc::new(Mutex::new(filter.to_owned())),
    };
    let lines = tracing_subscriber::fmt::layer()
        .event_format(EitherFormat::new(Arc::clone(&logging.is_json)))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(layer).with(lines).try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(logging)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let all = if filter.contains("kube") { filter.to_owned() } else { format!("{filter}{QUIET}") };
    EnvFilter::builder().parse(all).map_err(|error| LogError::Filter { filter: filter.to_owned(), message: error.to_string() })
}

// === impl Logging ===

impl Logging {
    /// The filter as it was given, and the form of lines.
    pub fn state(&self) -> (String, LineFormat) {
        let format = if self.is_json.load(Relaxed) { LineFormat::Json } else { LineFormat::Text };
        (self.given.lock().unwrap_or_else(PoisonError::into_inner).clone(), format)
    }

    /// Changes what is logged, in which form, or both; in force at once, until the process ends.
    ///
    /// # Errors
    /// The filter is malformed; then nothing is changed.
    pub fn change(&self, filter: Option<&str>, format: Option<LineFormat>) -> Result<(), LogError> {
        if let Some(filter) = filter {
            self.filter.reload(parse(filter)?).map_err(|_| LogError::AlreadySet)?;
            filter.clone_into(&mut self.given.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if let Some(format) = format {
            self.is_json.store(format == LineFormat::Json, Relaxed);
        }
        Ok(())
    }
}

// === impl EitherFormat ===

impl EitherFormat {
    fn new(is_json: Arc<AtomicBool>) -> Self {
        let json = Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
        Self { text: Format::default().with_target(false), json, is_json }
    }
}

impl<S, N> FormatEvent<S, N> for EitherFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.is_json.load(Relaxed) {
            self.json.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn what_is_logged_and_how_changes_while_the_process_runs() {
        let (layer, filter) = reload::Layer::new(parse("info").unwrap());
        let is_json = Arc::<AtomicBool>::default();
        let logging = Logging { filter, is_json: Arc::clone(&is_json), given: Arc::new(Mutex::new("info".into())) };
        let lines = Lines::default();
        let out = tracing_subscriber::fmt::layer().event_format(EitherFormat::new(is_json)).with_writer(lines.clone()).with_ansi(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer).with(out), || {
            let log = || {
                tracing::debug!(pods = 3, "fine");
                tracing::info!(pods = 3, "coarse");
                lines.take()
            };
            let text = log();
            assert!(text.ends_with("INFO coarse pods=3\n") && !text.contains("fine"), "{text}");
            logging.change(Some("debug"), Some(LineFormat::Json)).unwrap();
            let json = log();
            assert!(
                json.lines().count() == 2 && json.lines().all(|line| line.starts_with("{\"timestamp\"") && line.contains("\"pods\":3")),
                "{json}"
            );
            assert_eq!(logging.state(), ("debug".to_owned(), LineFormat::Json));
            assert!(logging.change(Some("loud=yes=no"), Some(LineFormat::Text)).is_err());
            assert_eq!(logging.state(), ("debug".to_owned(), LineFormat::Json), "all or nothing");
            logging.change(Some("off"), None).unwrap();
            assert_eq!(log(), "");
        });
    }
}
