//! The steps of `test` and of `soak`, from the quick to the slow.

use anyhow::Result;

use crate::alerts;
use crate::cargo_test::{Suite, count_and_run};
use crate::chart;
use crate::context::{Context, succeed, works};
use crate::dashboards;
use crate::e2e;
use crate::gates;
use crate::image;
use crate::instructions;
use crate::simulate;
use crate::step::{Outcome, Step};
use crate::tools;

/// What CI runs.
pub(crate) const TEST: &[Step] = &[
    Step {
        name: "packages",
        purpose: "the system packages that tests use",
        run: tools::packages,
    },
    Step {
        name: "format",
        purpose: "rustfmt would change nothing",
        run: format,
    },
    Step {
        name: "modules",
        purpose: "every .rs file is reached by a mod",
        run: gates::modules,
    },
    Step {
        name: "length",
        purpose: "files are short (a warning only)",
        run: gates::length,
    },
    Step {
        name: "documents",
        purpose: "links and commands name what is there",
        run: gates::documents,
    },
    Step {
        name: "purity",
        purpose: "the protocol crate depends on nothing that does I/O",
        run: gates::purity,
    },
    Step {
        name: "dependencies",
        purpose: "bans, licences and sources by cargo-deny",
        run: tools::deny,
    },
    Step {
        name: "clippy",
        purpose: "no warning in any target",
        run: clippy,
    },
    Step {
        name: "rustdoc",
        purpose: "no warning in the documentation, private items too",
        run: rustdoc,
    },
    Step {
        name: "unit",
        purpose: "unit and integration tests",
        run: |context| count_and_run(context, &UNIT),
    },
    Step {
        name: "doctests",
        purpose: "examples in the documentation",
        run: |context| count_and_run(context, &DOCTESTS),
    },
    Step {
        name: "simulator",
        purpose: "the machines together on virtual time",
        run: |context| count_and_run(context, &SIMULATOR),
    },
    Step {
        name: "seeds",
        purpose: "random seeds of the simulator",
        run: |context| simulate::seeds(context, SEEDS),
    },
    Step {
        name: "fuzz",
        purpose: "mutated bytes where bytes of others come in",
        run: |context| count_and_run(context, &FUZZ),
    },
    Step {
        name: "processes",
        purpose: "real processes, release build",
        run: |context| count_and_run(context, &PROCESSES),
    },
    Step {
        name: "instructions",
        purpose: "codec, machines and log take no more instructions than they did",
        run: instructions::check,
    },
    Step {
        name: "chart",
        purpose: "Helm's lint, and what is written from the chart",
        run: chart::check,
    },
    Step {
        name: "alerts",
        purpose: "Prometheus' rules fire when they should, and each alert has a page",
        run: alerts::check,
    },
    Step {
        name: "dashboards",
        purpose: "Grafana's rules for dashboards, and metrics that are documented",
        run: dashboards::check,
    },
    Step {
        name: "image",
        purpose: "hadolint on each Dockerfile, and a build for arm64",
        run: image::check,
    },
    Step {
        name: "cluster",
        purpose: "end-to-end tests on a Kubernetes brought up for them",
        run: e2e::step,
    },
];

/// Seeds that every change is tried with: less than a minute on two cores.
const SEEDS: u32 = 2_000;

/// Seeds of the long simulation: half an hour on two cores.
const SOAK_SEEDS: u32 = 100_000;

/// The long forms of the tests.
pub(crate) const SOAK: &[Step] = &[
    Step {
        name: "seeds",
        purpose: "very many random seeds of the simulator",
        run: |context| simulate::seeds(context, SOAK_SEEDS),
    },
    Step {
        name: "exhaustive",
        purpose: "all courses of small fleets",
        run: simulate::exhaustive,
    },
    Step {
        name: "fuzz",
        purpose: "many mutated cases",
        run: |context| count_and_run(context, &FUZZ_LONG),
    },
    Step {
        name: "processes",
        purpose: "long batches and many kills",
        run: |context| count_and_run(context, &PROCESSES.long()),
    },
    Step {
        name: "unit",
        purpose: "long unit and integration tests",
        run: |context| count_and_run(context, &UNIT.long()),
    },
    Step {
        name: "cluster",
        purpose: "faults for minutes on a Kubernetes brought up for them",
        run: e2e::long_step,
    },
];

const UNIT: Suite = Suite::new(&[
    "--workspace",
    "--exclude=harmony",
    "--exclude=harmony-e2e",
    "--exclude=harmony-fuzz",
    "--exclude=harmony-simulator",
    "--lib",
    "--bins",
    "--tests",
]);
const DOCTESTS: Suite = Suite::new(&["--workspace", "--doc"]).may_be_empty();
const SIMULATOR: Suite = Suite::new(&[
    "--package=harmony-simulator",
    "--features=mutants",
    "--profile=simulator",
    "--lib",
    "--tests",
]);
const FUZZ: Suite = Suite::new(&["--package=harmony-fuzz", "--lib", "--bins", "--tests"]);
const FUZZ_LONG: Suite = Suite::new(&["--package=harmony-fuzz", "--profile=simulator", "--tests"]).long();
const PROCESSES: Suite = Suite::new(&["--package=harmony", "--release", "--bins", "--tests"]).as_shipped();

fn format(context: &Context) -> Result<Outcome> {
    if !works(context.cargo("fmt").arg("--version")) {
        return Ok(missing_component("rustfmt"));
    }
    succeed(context.cargo("fmt").args(["--all", "--check"]))?;
    Ok(Outcome::PASSED)
}

fn clippy(context: &Context) -> Result<Outcome> {
    if !works(context.cargo("clippy").arg("--version")) {
        return Ok(missing_component("clippy"));
    }
    let mut clippy = context.cargo_locked("clippy");
    succeed(clippy.args(["--workspace", "--all-targets", "--", "--deny=warnings"]))?;
    let mut mutants = context.cargo_locked("clippy");
    mutants.args(["--package=harmony-simulator", "--features=mutants", "--all-targets"]);
    succeed(mutants.args(["--", "--deny=warnings"]))?;
    Ok(Outcome::PASSED)
}

fn missing_component(name: &str) -> Outcome {
    Outcome::Skipped(format!("{name} is not installed: rustup component add {name}"))
}

fn rustdoc(context: &Context) -> Result<Outcome> {
    let mut doc = context.cargo_locked("doc");
    doc.args(["--workspace", "--no-deps", "--document-private-items"]);
    succeed(doc.env("RUSTDOCFLAGS", "--deny=warnings"))?;
    Ok(Outcome::PASSED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_steps_of_a_list_have_the_same_name() {
        for list in [TEST, SOAK] {
            let names: BTreeSet<_> = list.iter().map(|step| step.name).collect();
            assert_eq!(names.len(), list.len());
        }
    }
}
