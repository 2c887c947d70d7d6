//! One function a command: from what was typed to an exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::cli::{Cli, Command};

use super::{
    chart_test, crds, demo, doctor, error::CommandError, explain, migrate, release, run::run as in_cluster, simulate, standalone, validate,
    verify,
};

/// Carries out a command.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(arguments) => in_cluster(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Standalone(arguments) => standalone::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Demo(arguments) => demo::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Explain(arguments) => explain::run(arguments, &mut io::stdout().lock()).map(|()| ExitCode::SUCCESS),
        Command::Simulate(arguments) => simulate::run(arguments, &mut io::stdout().lock()).map(|()| ExitCode::SUCCESS),
        Command::Validate(arguments) => validate::run(&arguments, &mut io::stdout().lock()).map(ExitCode::from),
        Command::Verify(arguments) => verify::run(arguments, &mut io::stdout().lock()),
        Command::Doctor(arguments) => doctor::run(&arguments, &mut io::stdout().lock()),
        Command::Migrate(arguments) => migrate::run(&arguments, &mut io::stdout().lock()).map(ExitCode::from),
        Command::Release(arguments) => release::run(arguments),
        Command::ChartTest(arguments) => chart_test::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Crds(arguments) => crds::run(arguments, &mut io::stdout().lock()).map(ExitCode::from),
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
