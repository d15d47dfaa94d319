//! Branches that a run of many seeds must have seen: a suite in which they never happen proves nothing about them.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Something that tests of rules depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Branch {
    /// The collector got an outcome of a number that was settled.
    DuplicateDropped,
    /// The collector got a message of an epoch below the last one.
    StaleEpochAtCollector,
    /// A worker got tasks of, or refused, an epoch below the highest one.
    StaleEpochAtWorker,
    /// A ventilator ended since another one has its batch.
    VentilatorFenced,
    /// A ventilator asked the collector whose batch it is, since a worker knew a higher epoch.
    EpochDoubted,
    /// A collector that died lost records that were not synced.
    TailTruncated,
    /// A ventilator had used up all its credit.
    CreditAtZero,
    /// An outcome that the allowance of its worker had no room for was given room.
    ReserveGranted,
    /// A worker denied a number that it was asked for.
    HeldNo,
    /// A worker held a number that it was asked for.
    HeldYes,
    /// A takeover sent tasks before all workers had answered.
    TakeoverBeforeAllAnswered,
    /// A takeover found numbers at a worker.
    TakeoverLocated,
    /// MISSING named what its ventilator believed settled.
    MissingSettled,
    /// MISSING named what its ventilator believed in flight.
    MissingInFlight,
    /// A worker that was away came back as the same process.
    SuspectWithdrawn,
    /// A ventilator told the collector of a death.
    SuspectConfirmed,
    /// A number was sent to run alone.
    SentAlone,
    /// A number was blamed for a death while it ran alone.
    ChargedAfterDeathAlone,
    /// A worker that leaves handed tasks back.
    ReturnedByDrain,
    /// Outcomes that were not acked were sent again on a new link.
    OutcomesResent,
    /// The collector refused a worker since the batch was not started there.
    NotStartedRefused,
    /// The collector told a ventilator that its disk is full.
    DiskFullTold,
    /// The collector told a ventilator that its disk has room again.
    DiskRoomTold,
    /// Damage was found in the log.
    DamageFound,
    /// A batch had no numbers.
    EmptyBatch,
    /// A user ended a batch early.
    Cancelled,
    /// Too many failures ended a batch early.
    TooManyFailures,
    /// A worker forgot a batch.
    BatchForgotten,
    /// A ventilator said that a payload is too large.
    PayloadTooLarge,
    /// A batch that had ended was started again, and answered.
    StartedAfterEnd,
    /// Tasks left while the collector was silent.
    SentWhileSilent,
    /// An executor stopped a task.
    TaskStopped,
    /// A link closed, and a number of it was sent again.
    AgainAfterLinkClosed,
    /// A number was sent again since the collector asked for another attempt.
    AgainAfterRetry,
    /// A number was sent again since its worker had handed it back.
    AgainAfterReturn,
    /// A number was sent again since its worker could not reach the collector.
    AgainAfterUnbound,
    /// A number was sent again since its worker did not hold it.
    AgainAfterDenial,
    /// A number was sent again since its worker's STATE did not list it.
    AgainAfterUnlisted,
    /// A worker that is drained was told that nothing more is to come.
    WorkerSpared,
    /// An output came in by more than one part.
    OutputInParts,
    /// An output began anew on another link.
    OutputStartedOver,
    /// An output that came in by parts was of a number that was settled.
    OutputOfSettled,
    /// A payload went to a worker by more than one part.
    PayloadInParts,
    /// A payload began anew on another link.
    PayloadStartedOver,
    /// A payload in parts used up the bytes that were granted.
    PayloadWaited,
}

/// All branches.
pub const BRANCHES: [Branch; 45] = [
    Branch::DuplicateDropped,
    Branch::StaleEpochAtCollector,
    Branch::StaleEpochAtWorker,
    Branch::VentilatorFenced,
    Branch::EpochDoubted,
    Branch::TailTruncated,
    Branch::CreditAtZero,
    Branch::ReserveGranted,
    Branch::HeldNo,
    Branch::HeldYes,
    Branch::TakeoverBeforeAllAnswered,
    Branch::TakeoverLocated,
    Branch::MissingSettled,
    Branch::MissingInFlight,
    Branch::SuspectWithdrawn,
    Branch::SuspectConfirmed,
    Branch::SentAlone,
    Branch::ChargedAfterDeathAlone,
    Branch::ReturnedByDrain,
    Branch::OutcomesResent,
    Branch::NotStartedRefused,
    Branch::DiskFullTold,
    Branch::DiskRoomTold,
    Branch::DamageFound,
    Branch::EmptyBatch,
    Branch::Cancelled,
    Branch::TooManyFailures,
    Branch::BatchForgotten,
    Branch::PayloadTooLarge,
    Branch::StartedAfterEnd,
    Branch::SentWhileSilent,
    Branch::TaskStopped,
    Branch::AgainAfterLinkClosed,
    Branch::AgainAfterRetry,
    Branch::AgainAfterReturn,
    Branch::AgainAfterUnbound,
    Branch::AgainAfterDenial,
    Branch::AgainAfterUnlisted,
    Branch::WorkerSpared,
    Branch::OutputInParts,
    Branch::OutputStartedOver,
    Branch::OutputOfSettled,
    Branch::PayloadInParts,
    Branch::PayloadStartedOver,
    Branch::PayloadWaited,
];

/// How often each branch was seen.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: RefCell<BTreeMap<Branch, u64>>,
}

impl Coverage {
    /// A branch was seen.
    pub(super) fn note(&self, branch: Branch) {
        *self.counts.borrow_mut().entry(branch).or_default() += 1;
    }

    /// How often a branch was seen.
    pub fn count(&self, branch: Branch) -> u64 {
        self.counts.borrow().get(&branch).copied().unwrap_or_default()
    }

    /// Adds what another run has seen.
    pub fn add(&self, other: &Self) {
        for (branch, count) in other.counts.borrow().iter() {
            *self.counts.borrow_mut().entry(*branch).or_default() += count;
        }
    }

    /// What was never seen over this many seeds, though that many are enough to see it.
    pub fn unseen(&self, seeds: u64) -> Vec<Branch> {
        let counts = self.counts.borrow();
        let expected = BRANCHES.into_iter().filter(|branch| seeds >= branch.seeds());
        expected.filter(|branch| !counts.contains_key(branch)).collect()
    }
}

impl Branch {
    /// How many seeds are enough to see it, with a wide margin.
    fn seeds(self) -> u64 {
        match self {
            // A worker that alone is cut off from the collector for 10 s with work left;
            // an ACK that arrives after the disk behind it is lost, and after the worker said what it holds.
            Self::AgainAfterUnbound | Self::AgainAfterDenial => 10_000,
            Self::AgainAfterUnlisted | Self::ReserveGranted => 2_000,
            Self::TooManyFailures | Self::TaskStopped | Self::ReturnedByDrain | Self::AgainAfterReturn => 1_000,
            _ => 200,
        }
    }
}
