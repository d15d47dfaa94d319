//! `cargo test`, with a count of what it ran: a suite that lost its tests does not pass for one that passed.

use std::process::Command;

use anyhow::Result;

use crate::context::{Context, output, succeed};
use crate::shipped::as_shipped;
use crate::step::Outcome;

/// Which tests `cargo test` runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    selection: &'static [&'static str],
    long: bool,
    may_be_empty: bool,
    as_shipped: bool,
}

impl Suite {
    /// The tests that cargo's `selection` names, less those marked `#[ignore]`.
    pub(crate) const fn new(selection: &'static [&'static str]) -> Self {
        Self {
            selection,
            long: false,
            may_be_empty: false,
            as_shipped: false,
        }
    }

    /// Those marked `#[ignore]` instead.
    pub(crate) const fn long(self) -> Self {
        Self { long: true, ..self }
    }

    /// Builds programs as they are shipped, so that what is tested is that, and is built once.
    pub(crate) const fn as_shipped(self) -> Self {
        Self {
            as_shipped: true,
            ..self
        }
    }

    /// Passes without a single test, too.
    pub(crate) const fn may_be_empty(self) -> Self {
        Self {
            may_be_empty: true,
            ..self
        }
    }
}

/// Counts the tests and runs them all, also after one that failed.
pub(crate) fn count_and_run(context: &Context, suite: &Suite) -> Result<Outcome> {
    let cargo_test = || -> Result<Command> {
        let mut test = context.cargo_locked("test");
        if suite.as_shipped {
            as_shipped(context, &mut test)?;
        }
        test.args(suite.selection).args(["--no-fail-fast", "--"]);
        if suite.long {
            test.arg("--ignored");
        }
        Ok(test)
    };
    let all = listed(&output(cargo_test()?.args(["--list", "--format=terse"]))?);
    // A plain list holds the long ones too.
    let long = match (suite.long, all) {
        (true, _) | (_, 0) => 0,
        _ => listed(&output(cargo_test()?.args(["--ignored", "--list", "--format=terse"]))?),
    };
    let count = all.saturating_sub(long);
    if count == 0 && !suite.may_be_empty {
        return Ok(Outcome::Skipped("there is no such test".to_owned()));
    }
    succeed(&mut cargo_test()?)?;
    Ok(Outcome::Passed(format!("{count} tests")))
}

/// How many tests libtest's terse list names, over all test programs.
fn listed(list: &str) -> usize {
    list.lines().filter(|line| line.ends_with(": test")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_over_all_programs() {
        assert_eq!(listed(""), 0);
        assert_eq!(
            listed("wire::one: test\nwire::fast: benchmark\nprotocol/src/lib.rs - set (line 3): test\n"),
            2
        );
    }
}
