//! One function a command: from what was typed to an exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use tokio::runtime::Runtime;

use crate::cli::{Cli, Command, ServeArgs, StandaloneArgs};
use crate::settings::{Settings, SettingsError};
use crate::telemetry::{LogError, Logging, init_logging};

use super::{
    App, AppError, Resources, chart_test, crds, demo, doctor, explain, migrate, release,
    run::run as in_cluster,
    serve::AppError as ServeError,
    shutdown, simulate, source,
    validate::{self, Verdict},
};

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// A flag is refused.
    #[error("{0}; see clingfish help")]
    Settings(#[from] SettingsError),
    /// The log cannot be set up.
    #[error("{0}; see --log-level and --log-format")]
    Log(#[from] LogError),
    /// A gateway cannot be started.
    #[error(transparent)]
    App(#[from] AppError),
    /// A directory cannot be read.
    #[error(transparent)]
    Files(#[from] crate::controller::FilesError),
    /// Input or output.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Anything else, complete with what to do next.
    #[error("{0}")]
    Message(String),
}

/// Carries out a command.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(arguments) => in_cluster(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Standalone(arguments) => standalone(arguments).map(|()| ExitCode::SUCCESS),
        Command::Demo(arguments) => demo::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Explain(arguments) => explain::run(arguments, &mut io::stdout().lock()).map(|()| ExitCode::SUCCESS),
        Command::Simulate(arguments) => simulate::run(arguments, &mut io::stdout().lock()).map(|()| ExitCode::SUCCESS),
        Command::Validate(arguments) => validate::run(&arguments, &mut io::stdout().lock()).map(exit_code),
        Command::Doctor(arguments) => doctor::run(&arguments, &mut io::stdout().lock()),
        Command::Migrate(arguments) => migrate::run(&arguments, &mut io::stdout().lock()).map(exit_code),
        Command::Release(arguments) => release::run(arguments),
        Command::ChartTest(arguments) => chart_test::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Crds(arguments) => crds::run(arguments, &mut io::stdout().lock()).map(exit_code),
    };
    match result {
        Ok(code) => code,
        // The reader has seen enough: `clingfish validate DIR | head`.
        Err(CommandError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Accepted => ExitCode::SUCCESS,
        Verdict::Rejected => ExitCode::FAILURE,
    }
}

fn standalone(arguments: StandaloneArgs) -> Result<(), CommandError> {
    let StandaloneArgs { manifests, bind, state_directory, serve } = arguments;
    let (settings, logging) = prepare(serve, bind)?;
    let settings = Settings { state_directory, ..settings };
    let runtime = control_runtime()?;
    runtime.block_on(async {
        let app = App::start(&settings, source::options(&settings), Resources::Directory(manifests.clone()), Some(logging))?;
        tracing::info!(manifests = %manifests.display(), admin = %app.admin_address(), workers = settings.workers, "clingfish {}", env!("CARGO_PKG_VERSION"));
        // A signal that comes before is heeded too: what can be served is served already.
        let signal = tokio::select! {
            signal = shutdown::signal() => Some(signal?),
            () = app.ready() => None,
        };
        if let Some(signal) = signal {
            return drain(app, &signal).await;
        }
        tell_sockets(&app);
        serve_until_told(app).await
    })
}

/// Validates the settings and sets the log up.
pub(super) fn prepare(serve: ServeArgs, bind: Option<std::net::IpAddr>) -> Result<(Settings, Logging), CommandError> {
    let settings = serve.settings(bind)?;
    let logging = init_logging(settings.log_format, &settings.log_filter)?;
    Ok((settings, logging))
}

/// The runtime of everything that is not data plane, engine or admin server; it has little to do.
pub(super) fn control_runtime() -> Result<Runtime, CommandError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?)
}

fn tell_sockets(app: &App) {
    let states = app.bound().borrow().states();
    let listening: Vec<String> =
        states.iter().filter(|(_, state)| **state == crate::snapshot::BindState::Bound).map(|(address, _)| address.to_string()).collect();
    if listening.is_empty() {
        tracing::warn!("nothing listens yet: no Gateway has a listener that can be served; statuses are in GET /config");
    } else {
        tracing::info!("listening on {}", listening.join(", "));
    }
}

/// Serves until a signal, then drains.
pub(super) async fn serve_until_told(app: App) -> Result<(), CommandError> {
    let signal = shutdown::signal().await?;
    drain(app, &signal).await
}

async fn drain(app: App, signal: &impl std::fmt::Display) -> Result<(), CommandError> {
    tracing::info!("{signal}: draining");
    if app.drain().await {
        tracing::info!("drained");
    } else {
        tracing::warn!("what was still in flight was cut off; --drain-max is the limit");
    }
    Ok(())
}

impl From<crate::admin::AdminError> for CommandError {
    fn from(error: crate::admin::AdminError) -> Self {
        Self::App(ServeError::Admin(error))
    }
}
