//! `cargo xtask simulate`: the simulator's own program, in the profile its tests use.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::context::{Context, status};

/// Runs the simulator and gives its exit code back.
pub(crate) fn simulate(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let mut run = context.cargo_locked("run");
    run.args(["--quiet", "--package=harmony-simulator", "--profile=simulator", "--"]);
    let code = status(run.args(arguments))?.code();
    Ok(code
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
