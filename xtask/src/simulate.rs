//! `cargo xtask simulate`: the simulator's own program, in the profile its tests use.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::context::{Context, status, succeed};
use crate::step::Outcome;

/// Runs the simulator and gives its exit code back.
pub(crate) fn simulate(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let mutants = arguments.iter().any(|argument| argument == "--mutants");
    let features: &[&str] = if mutants { &["mutants"] } else { &[] };
    let code = status(simulator(context, features).args(arguments))?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs this many seeds; one that fails fails the step.
pub(crate) fn soak(context: &Context, seeds: u32) -> Result<Outcome> {
    succeed(simulator(context, &[]).args(["--seeds", &seeds.to_string()]))?;
    Ok(Outcome::Passed(format!("{seeds} seeds")))
}

fn simulator(context: &Context, features: &[&str]) -> Command {
    let mut run = context.cargo_locked("run");
    run.args(["--quiet", "--package=harmony-simulator", "--profile=simulator"]);
    run.args(["--features", &features.join(","), "--"]);
    run
}
