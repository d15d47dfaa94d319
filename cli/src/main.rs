//! `harmony`: run a big batch of numbered tasks and end with exactly one recorded result per number.

mod args;
mod collector;
mod display;
mod exit;
mod install;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    args::main()
}
