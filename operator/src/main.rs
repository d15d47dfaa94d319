//! `harmony-operator`: runs `HarmonyBatch` resources.

use std::process::ExitCode;

/// Many small buffers are made on one thread and dropped on another, which the system's allocators do slowly: musl's, which the
/// images would have, most of all.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    harmony_operator::main()
}
