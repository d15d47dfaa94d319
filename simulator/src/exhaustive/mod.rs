//! The exhaustive search: a small fleet, and every way in which its course can go.
//!
//! The simulator draws long courses of large fleets at random; this search goes through all courses of a small one. The
//! machines are deterministic, so a state is what they say of themselves, what is under way between them, and the log.
//! From each state every [`step::Step`] is taken once; a state that was seen before is not gone through again.
//!
//! **What happens in any order**: messages of different links, ends of tasks, of fsyncs, of opening and reading back
//! the log, dials, restarts, and the short timers of each process (group commit, gathering, returning, first redial).
//! **What strikes at any point**: the death of each process, with or without what it sent and nobody has read and what
//! it wrote and did not sync; and the cut of each link, with all that is under way on it.
//!
//! **What is checked**: after each step the `sanity_check` of the machine that took it, and these rules: what
//! the collector says and acks is durable, no number is settled or charged twice, epochs rise, nothing runs that was not
//! sent, and without a fault nothing runs twice. At each end: all numbers are settled. In between: there is no
//! state in which nothing can happen, none that comes back, and no wait without end.
//!
//! **What is not covered**:
//! - Long timers fire only when nothing else can happen, and heartbeats are exchanged at once meanwhile.
//! - A link is made in one step, HELLOs included. An executor is ready at once, a duplicate is compared at once.
//! - Two states whose times differ by less than 250 ms, relative to the clocks of their processes, count as one.
//! - What comes after a ventilator has heard the end of the batch.
//! - Half-open links, pauses, clocks of different rates, full and damaged disks: those are the simulator's.
//!
//! **Reductions.** Steps of different processes commute: each takes the head of a queue to its own process and adds to
//! the tails of others, and neither enables nor disables the other. So sleep sets leave out all but one order of each
//! such pair (Godefroid 1996, with a table of states); all states are still visited, and so all faults strike in each.
//!
//! **Bounds.** Two workers with three tasks have two million states without any fault, and each fault multiplies
//! them by some hundred. So every order is tried of two workers without a fault, and of one worker with one. For the
//! rest [`Scope::holds`] bounds the orders: of all that can happen the first goes first, but so many times something
//! is held until nothing else can happen (delay bounding: Emmi, Qadeer and Rakamarić 2011). Each scope is gone through
//! in full.

mod connection;
mod hosts;
mod key;
mod links;
mod log;
mod scopes;
mod search;
mod state;
pub mod step;
mod words;

use std::fmt::Write as _;

pub use self::scopes::{Size, scopes};
pub use self::search::{Seen, Violation};

use self::search::Search;
use self::state::State;
use self::step::Step;
use crate::broken::{Broken, catch};

/// What may be struck by a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A worker dies and starts again.
    Worker,
    /// The collector dies and starts again.
    Collector,
    /// The ventilator dies, and another one takes over.
    Ventilator,
    /// A link breaks.
    Link,
}

/// All that may be struck.
pub const VICTIMS: [Victim; 4] = [Victim::Worker, Victim::Collector, Victim::Ventilator, Victim::Link];

/// A deliberate bug of a host, so that a test sees the search find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Records are said to be durable before they are.
    AcksBeforeSync,
    /// The ventilator is not told when a link is gone, so that it dials nobody again.
    DeafVentilator,
}

/// What is searched.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Workers, with one slot each.
    pub workers: usize,
    /// Tasks.
    pub tasks: u64,
    /// The first attempt of this number fails.
    pub flaky: Option<u64>,
    /// Faults on each path, at most.
    pub faults: u32,
    /// What they may strike.
    pub victims: Vec<Victim>,
    /// How often something may be held until nothing else can happen; without a limit every order is tried.
    pub holds: Option<u32>,
    /// With a limit: the last in order goes first.
    pub backward: bool,
    /// A deliberate bug.
    pub plant: Option<Plant>,
}

impl Scope {
    /// Every order, without faults.
    pub fn new(workers: usize, tasks: u64) -> Self {
        Self {
            workers,
            tasks,
            flaky: None,
            faults: 0,
            victims: Vec::new(),
            holds: None,
            backward: false,
            plant: None,
        }
    }

    /// With so many faults on each path, at most.
    #[must_use]
    pub fn struck(self, faults: u32, victims: &[Victim]) -> Self {
        let victims = victims.to_vec();
        Self {
            faults,
            victims,
            ..self
        }
    }

    /// With so few orders.
    #[must_use]
    pub fn holding(self, holds: u32, backward: bool) -> Self {
        Self {
            holds: Some(holds),
            backward,
            ..self
        }
    }

    /// Goes through all states, and stops at the first rule that is broken.
    pub fn search(&self) -> Result<Seen, Box<Violation>> {
        Search::new(self).run()
    }

    /// Takes the steps of a path again. Returns each in words, with what it delivers, and the rule that the last one breaks.
    pub fn replay(&self, path: &[Step]) -> (String, Option<Broken>) {
        let mut story = String::new();
        let broken = catch(|| {
            let mut state = State::new(self);
            for (count, step) in (1..).zip(path) {
                writeln!(story, "{count:4} {}", state.describe(step)).expect("memory takes text");
                state.apply(self, *step);
            }
            if state.is_done() {
                state.judge(self);
            }
        });
        (story, broken.err())
    }
}
