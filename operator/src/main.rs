//! `harmony-operator`: runs `HarmonyBatch` resources.

use std::process::ExitCode;

/// As in `harmony`: the ventilators of all batches run here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    harmony_operator::main()
}
