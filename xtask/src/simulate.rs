//! `cargo xtask simulate`: the simulator's own program, in the profile and with the features that its tests use.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::context::{Context, status, succeed};
use crate::step::Outcome;

/// Runs the simulator and gives its exit code back.
pub(crate) fn simulate(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let code = status(simulator(context).args(arguments))?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs this many seeds; one that fails fails the step.
pub(crate) fn seeds(context: &Context, seeds: u32) -> Result<Outcome> {
    succeed(simulator(context).args(["--seeds", &seeds.to_string()]))?;
    Ok(Outcome::Passed(format!("{seeds} seeds")))
}

/// Goes through all courses of some small fleets, in the long form.
pub(crate) fn exhaustive(context: &Context) -> Result<Outcome> {
    succeed(simulator(context).args(["--exhaustive", "full"]))?;
    Ok(Outcome::PASSED)
}

/// Deliberate bugs can be switched on in this build, and are off unless asked for.
fn simulator(context: &Context) -> Command {
    let mut run = context.cargo_locked("run");
    run.args([
        "--quiet",
        "--package=harmony-simulator",
        "--profile=simulator",
        "--features=mutants",
        "--",
    ]);
    run
}
