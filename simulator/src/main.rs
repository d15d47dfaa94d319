//! Runs many seeds, or one with its trace.

use std::process::ExitCode;

fn main() -> ExitCode {
    harmony_simulator::command::main()
}
