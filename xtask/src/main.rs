//! The project's own commands: `cargo xtask test`, `soak`, `simulate`, `instructions`, `cluster` and `e2e`.

mod alerts;
mod bench;
mod cargo_test;
mod chart;
mod cli;
mod cluster;
mod context;
mod crds;
mod dashboards;
mod e2e;
mod gates;
mod image;
mod instructions;
mod report;
mod shipped;
mod simulate;
mod step;
mod suite;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
