//! How the programs are built that are shipped: statically, since they run in images with another C library or none.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::context::{Context, output};

/// rustc's flags for it.
const FLAGS: &str = "-C target-feature=+crt-static";

/// Lets a command of cargo build what is shipped, and says for which target.
pub(crate) fn as_shipped(context: &Context, cargo: &mut Command) -> Result<String> {
    let machine = machine(context)?;
    // Naming the target keeps the flags away from what runs during the build.
    cargo.args(["--target", &machine]).env("RUSTFLAGS", FLAGS);
    Ok(machine)
}

/// The target that this machine's own programs are built for.
fn machine(context: &Context) -> Result<String> {
    let version = output(context.command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
