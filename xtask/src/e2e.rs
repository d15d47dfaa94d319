//! The end-to-end tests, on the cluster of the kubeconfig or on one that is brought up for them.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo_test::{Suite, count_and_run};
use crate::cluster::{self, Layout};
use crate::context::{Context, status};
use crate::step::Outcome;

/// Tells the tests which `harmony` to call: the one that is in the image.
const PROGRAM: &str = "HARMONY_BIN";

/// Tells them which Prometheus to start.
const PROMETHEUS: &str = "HARMONY_PROMETHEUS";
/// Tells them where the module of the Prometheus operator is, for the definitions of its kinds.
const PROMETHEUS_OPERATOR: &str = "HARMONY_PROMETHEUS_OPERATOR";

/// The tests of the harness, too.
const TESTS: Suite = Suite::new(SELECTION);
const SELECTION: &[&str] = &["--package=harmony-e2e", "--lib", "--tests"];

/// What the tests run on.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The local cluster to use, when several stand side by side: from 0.
    #[arg(long, default_value_t = 0)]
    index: u8,
    /// Leaves the cluster up.
    #[arg(long)]
    keep: bool,
    /// The cargo profile of Harmony's programs in the image; `dev` is the quickest to build again.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Handed on to cargo test: which tests, and how they run.
    #[arg(last = true)]
    filters: Vec<String>,
}

/// `cargo xtask e2e`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let context = Context::from_environment(false)?;
    let tests = |context: &Context| {
        let mut test = context.cargo_locked("test");
        test.args(SELECTION)
            .args(["--no-fail-fast", "--"])
            .args(&arguments.filters);
        Ok(status(&mut test)?.success())
    };
    let passed = match env::var_os("KUBECONFIG") {
        Some(kubeconfig) => on_given(&context, Path::new(&kubeconfig), &arguments.profile, tests)?,
        None => on_own(&context, arguments, tests)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The step of `cargo xtask test`.
pub(crate) fn step(context: &Context) -> Result<Outcome> {
    step_of(context, &TESTS)
}

/// The step of `cargo xtask soak`.
pub(crate) fn long_step(context: &Context) -> Result<Outcome> {
    step_of(context, &TESTS.long())
}

fn step_of(context: &Context, suite: &Suite) -> Result<Outcome> {
    if let Some(obstacle) = cluster::obstacle(context) {
        return Ok(Outcome::Skipped(obstacle));
    }
    let arguments = Arguments {
        index: cluster::CLUSTERS - 1, // not the one that a person may have up
        keep: false,
        profile: "release".to_owned(),
        filters: Vec::new(),
    };
    on_own(context, &arguments, |context| count_and_run(context, suite))
}

/// Only a cluster of ours can be handed images.
fn on_given<T>(
    context: &Context,
    kubeconfig: &Path,
    profile: &str,
    tests: impl Fn(&Context) -> Result<T>,
) -> Result<T> {
    let program = if let Some(layout) = Layout::of_kubeconfig(context, kubeconfig) {
        cluster::load_next(context, &layout, profile)?;
        cluster::load_harmony(context, &layout, profile)?
    } else {
        println!(
            "{}: this cluster's nodes must have the images harmony:dev (of Dockerfile), \
             harmony:next (the same with the cargo feature `next`), shell:dev, named:dev, \
             numeric:dev, bare:dev and closure:dev (of e2e/images/Dockerfile), and volumes of the classes local and shared",
            kubeconfig.display()
        );
        cluster::build_harmony(context, profile)?
    };
    tests(&for_tests(context, &program)?)
}

/// What tests find by their environment.
fn for_tests(context: &Context, program: &Path) -> Result<Context> {
    let (prometheus, operator) = cluster::monitoring(context)?;
    let context = cluster::with_clients(context)?.with(PROGRAM, program.as_os_str());
    let context = context.with(PROMETHEUS, prometheus.as_os_str());
    Ok(context.with(PROMETHEUS_OPERATOR, operator.as_os_str()))
}

fn on_own<T>(context: &Context, arguments: &Arguments, tests: impl Fn(&Context) -> Result<T>) -> Result<T> {
    let layout = Layout::new(context, arguments.index)?;
    let context = context.with("KUBECONFIG", layout.kubeconfig().as_os_str());
    let profile = &arguments.profile;
    let loaded = cluster::up(&context, &layout)
        .and_then(|()| cluster::load_next(&context, &layout, profile))
        .and_then(|()| cluster::load_harmony(&context, &layout, profile));
    let outcome = loaded.and_then(|program| tests(&for_tests(&context, &program)?));
    if arguments.keep {
        println!("export KUBECONFIG={}", layout.kubeconfig().display());
    } else {
        cluster::down(&layout)?;
    }
    outcome
}
