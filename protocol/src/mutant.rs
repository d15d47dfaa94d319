//! Deliberate bugs. The simulator's checker is only as good as the bugs that it catches, so it must catch each of these.
//!
//! A mutant is a switch at the place of one decision. Without the feature `mutants`, which only the simulator's own
//! feature of that name turns on, [`on`] is a constant and nothing of them is in the program.

/// Names the mutants; the rule that each breaks is its documentation and what the runner prints.
macro_rules! mutants {
    ($(#[doc = $rule:literal] $name:ident,)+) => {
        /// A deliberate bug, by the rule that it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $rule] $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The rule that it breaks.
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Self::$name => $rule.trim_ascii(),)+
                }
            }
        }
    };
}

mutants! {
    /// C acks outcomes only when they are durable.
    AckBeforeFsync,
    /// C reports numbers only when their records are durable.
    ReportBeforeFsync,
    /// A full disk loses nothing that was taken in: it is written again.
    FullDiskForgets,
    /// A batch is settled when every number is, not when as many outcomes are recorded.
    CounterInsteadOfSet,
    /// DONE follows only when nothing is missing, whatever END says.
    EndTrusted,
    /// DONE follows only after all records were read back.
    ReadBackSkipped,
    /// A checkpoint is never ahead of its log.
    CheckpointAhead,
    /// What was being written when the process died is cut off before more is written.
    TornTailKept,
    /// A record refers only to an output that is durable.
    OutputUnsynced,
    /// DONE follows only after all outputs were read back, too.
    OutputUnchecked,
    /// Damage costs the records that it hit, and none behind them.
    DamageDropsTheRest,
    /// C refuses the START and END of a lower epoch.
    StaleEpochAtCollector,
    /// C records a number once.
    NoDedup,
    /// Settled never changes: a number that failed for good stays failed.
    FailureOverwritten,
    /// Duplicates are counted.
    DuplicatesUncounted,
    /// Each number and attempt is charged once.
    ChargedTwice,
    /// Only a death after "alone begun" charges its number.
    ChargedInCompany,
    /// The death of a process is logged once.
    DeathLoggedTwice,
    /// C takes no outcomes of a batch that was not started there.
    NotStartedAcked,
    /// W refuses the START and TASKS of a lower epoch.
    StaleEpochAtWorker,
    /// W keeps one copy per number.
    SecondCopy,
    /// The credit of tasks that ended is free again.
    CreditKept,
    /// W keeps outcomes until they are acked, whatever happens to its link.
    OutcomesDropped,
    /// A task that is to run alone runs beside nothing.
    AloneInCompany,
    /// V sends nothing new to a worker that is drained.
    DrainedWorkerFed,
    /// V claims only an epoch that its host has kept.
    EpochNotKept,
    /// V sends no more than its newest WANT was granted.
    OldCredit,
    /// V replaces its settled set by the STATE of C.
    StateMerged,
    /// V sends no number twice while C is silent.
    ResendInSilence,
    /// V waits for the delay of a retry.
    RetryAtOnce,
    /// A "no" to HELD counts only if a later MISSING still lists the number.
    HeldNoCounts,
    /// START goes to W only while the STATE of C stands.
    StartBeforeState,
    /// Aliases are never reused on a link.
    AliasReused,
    /// PARTs go only within the bytes that are granted.
    PartBeyondCredit,
    /// A link that closes returns its numbers.
    LostNeverReturned,
    /// A takeover sends what may be at workers only when it has located it.
    TakeoverBlind,
    /// A ventilator that is fenced by C ends.
    FightsBack,
    /// A link is dead after 5 s of silence.
    SilenceForgiven,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this thread runs with this bug.
    pub fn on(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }

    /// Keeps a mutant active on this thread.
    #[derive(Debug)]
    pub struct Active {
        before: Option<Mutant>,
    }

    impl Mutant {
        /// Runs this thread with this bug until the guard is dropped.
        #[must_use]
        pub fn activate(self) -> Active {
            Active {
                before: ACTIVE.replace(Some(self)),
            }
        }
    }

    impl Drop for Active {
        fn drop(&mut self) {
            ACTIVE.set(self.before);
        }
    }
}

#[cfg(feature = "mutants")]
pub use switch::{Active, on};

/// Whether this thread runs with this bug: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn on(_: Mutant) -> bool {
    false
}
