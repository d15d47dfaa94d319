//! The project's own commands: `cargo xtask test`, `soak`, `simulate` and `cluster`.

mod cargo_test;
mod cli;
mod cluster;
mod context;
mod crds;
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
