//! The committed copy of the `CustomResourceDefinition`.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::context::{Context, output};

/// Where the copy is, from the checkout.
const COPY: &str = "crds/harmonybatches.yaml";

/// Writes what the operator prints. A test of `harmony-api` compares the two.
pub(crate) fn write(context: &Context) -> Result<ExitCode> {
    let mut print = context.cargo_locked("run");
    let yaml = output(print.args(["--quiet", "--package=harmony-operator", "--", "crd"]))?;
    fs::write(context.root.join(COPY), yaml).with_context(|| format!("cannot write {COPY}"))?;
    println!("{COPY} is what the types say");
    Ok(ExitCode::SUCCESS)
}
