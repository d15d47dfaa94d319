//! The project's own commands: `cargo xtask test`, `soak` and `simulate`.

mod cargo_test;
mod cli;
mod context;
mod gates;
mod report;
mod simulate;
mod step;
mod suite;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
