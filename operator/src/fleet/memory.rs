//! What is remembered between two plans.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{BACKOFF_FIRST, BACKOFF_MOST};

/// What [`super::plan()`] remembers of a batch. It may be lost: then a pod is perhaps replaced sooner, and ends are told again.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub(super) places: BTreeMap<u32, Place>,
    /// What the pods were to be made from at the last plan.
    revision: String,
    /// Pods that were there at the last plan, and their ordinals.
    pub(super) seen: BTreeMap<String, Seen>,
}

/// A pod that was there.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) ordinal: u32,
    /// Its end is told.
    pub(super) told: bool,
    /// This plan, or an earlier one, deletes it.
    pub(super) deleted: bool,
    /// Numbers that were settled there.
    pub(super) settled: u64,
}

/// What is known of one ordinal.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The generation that the next pod gets.
    pub(super) generation: u64,
    /// Ends in a row without progress.
    failures: u32,
    /// No pod is created before.
    not_before: Option<Timestamp>,
}

impl Place {
    /// A pod of this ordinal ended by itself.
    pub(super) fn ended(&mut self, now: Timestamp, progressed: bool) {
        if progressed {
            self.failures = 0;
        }
        self.not_before = match self.failures {
            0 => None,
            again => {
                let pause = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(again - 1));
                now.checked_add(pause.min(BACKOFF_MOST)).ok()
            }
        };
        self.failures = self.failures.saturating_add(1);
    }

    /// A pod may be created at once.
    fn forgive(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// How long until a pod may be created.
    pub(super) fn pause(&self, now: Timestamp) -> Option<Duration> {
        let left = self.not_before?.duration_since(now);
        Duration::try_from(left).ok().filter(|left| !left.is_zero())
    }
}

impl Memory {
    /// The pods are to be made from this. Where it is something else, how the others ended is no reason to wait.
    pub(super) fn expect(&mut self, revision: &str) {
        if self.revision != revision {
            revision.clone_into(&mut self.revision);
            self.places.values_mut().for_each(Place::forgive);
        }
    }

    /// Forgets pods that are gone.
    pub(super) fn keep_only(&mut self, names: &BTreeSet<&str>) {
        self.seen.retain(|name, _| names.contains(name.as_str()));
    }
}
