//! `harmony-operator`: runs `HarmonyBatch` resources.

use std::process::ExitCode;

fn main() -> ExitCode {
    harmony_operator::main()
}
