//! Steps, and how a list of them runs.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::context::Context;
use crate::report::{Report, Verdict};

/// One named check.
#[derive(Debug)]
pub(crate) struct Step {
    /// What it is called on the command line and in the summary.
    pub(crate) name: &'static str,
    /// What it shows, in a few words.
    pub(crate) purpose: &'static str,
    /// Does it. An error fails the step.
    pub(crate) run: fn(&Context) -> Result<Outcome>,
}

/// How a step ended that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well, and this is worth saying about it; may be empty.
    Passed(String),
    /// It could not run, for this reason. In CI that is a failure.
    Skipped(String),
}

impl Outcome {
    /// All is well, and there is nothing to add.
    pub(crate) const PASSED: Self = Self::Passed(String::new());
}

/// The steps of these names, in the order of the list; all of them if no name is given.
pub(crate) fn select<'a>(steps: &'a [Step], names: &[String]) -> Result<Vec<&'a Step>> {
    if let Some(unknown) = names.iter().find(|name| steps.iter().all(|step| step.name != **name)) {
        let known: Vec<_> = steps.iter().map(|step| step.name).collect();
        bail!("there is no step {unknown:?}; there are {}", known.join(", "));
    }
    let chosen = |step: &&Step| names.is_empty() || names.iter().any(|name| name == step.name);
    Ok(steps.iter().filter(chosen).collect())
}

/// Runs the steps one after the other. After one that failed, the rest is not run unless `keep_going`.
pub(crate) fn run_all(context: &Context, steps: &[&Step], keep_going: bool) -> Report {
    let mut report = Report::default();
    let mut failed = None;
    for step in steps {
        if let Some(name) = failed {
            report.add(
                step.name,
                Verdict::Skipped(format!("not run, since {name} failed")),
                None,
            );
            continue;
        }
        println!("\n==> {}: {}", step.name, step.purpose);
        let started = Instant::now();
        let verdict = judge((step.run)(context), context.strict);
        let line = report.add(step.name, verdict, Some(started.elapsed()));
        println!("<== {line}");
        if line.failed() && !keep_going {
            failed = Some(step.name);
        }
    }
    report
}

fn judge(outcome: Result<Outcome>, strict: bool) -> Verdict {
    match outcome {
        Ok(Outcome::Passed(note)) => Verdict::Passed(note),
        Ok(Outcome::Skipped(reason)) if strict => Verdict::Failed(format!("nothing may be skipped in CI: {reason}")),
        Ok(Outcome::Skipped(reason)) => Verdict::Skipped(reason),
        Err(error) => Verdict::Failed(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step] = &[
        Step {
            name: "good",
            purpose: "passes",
            run: |_| Ok(Outcome::PASSED),
        },
        Step {
            name: "absent",
            purpose: "is skipped",
            run: |_| Ok(Outcome::Skipped("no tool".to_owned())),
        },
        Step {
            name: "bad",
            purpose: "fails",
            run: |_| bail!("it is wrong"),
        },
        Step {
            name: "last",
            purpose: "passes",
            run: |_| Ok(Outcome::Passed("3 tests".to_owned())),
        },
    ];

    fn closing(strict: bool, keep_going: bool) -> String {
        let mut context = Context::from_environment(false).unwrap();
        context.strict = strict;
        let report = run_all(&context, &select(STEPS, &[]).unwrap(), keep_going);
        report.to_string().lines().last().unwrap().to_owned()
    }

    #[test]
    fn a_failure_ends_the_run_unless_told_to_go_on() {
        assert_eq!(closing(false, false), "1 passed, 1 failed, 2 skipped");
        assert_eq!(closing(false, true), "2 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn nothing_is_skipped_in_ci() {
        assert_eq!(closing(true, false), "1 passed, 1 failed, 2 skipped");
        assert_eq!(closing(true, true), "2 passed, 2 failed");
    }

    #[test]
    fn steps_keep_their_order_and_unknown_ones_are_refused() {
        let chosen = select(STEPS, &["last".to_owned(), "good".to_owned()]).unwrap();
        assert_eq!(
            chosen.iter().map(|step| step.name).collect::<Vec<_>>(),
            ["good", "last"]
        );
        let error = select(STEPS, &["goo".to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no step \"goo\"; there are good, absent, bad, last"
        );
    }
}
