//! `harmony`: run a big batch of numbered tasks and end with exactly one recorded result per number.

mod args;
mod batch_ref;
mod cluster;
mod collector;
mod display;
mod exit;
mod explain;
mod install;
mod local;
mod results;
mod run;
mod status;
mod top;
mod unix;

use std::process::ExitCode;

/// Many small buffers are made on one thread and dropped on another, which the system's allocators do slowly: musl's, which the
/// images would have, most of all.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    args::main()
}
