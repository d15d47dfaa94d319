//! The work that is left: what may be sent now, what is being sent in parts, what waits for its next attempt, and what must run
//! alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::uploads::Upload;
use crate::ids::{Attempt, LinkId};
use crate::limits::{DEATHS_BEFORE_ALONE, UPLOADS_AT_ONCE};
use crate::spans::{Run, SpanMap};
use crate::wire::Span;

/// A number to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Todo {
    pub(crate) attempt: Attempt,
    /// It was sent before. While the collector is silent such numbers stay here.
    pub(crate) resend: bool,
}

/// Where a number is that is neither settled nor in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It may be sent.
    Ready(Todo),
    /// It may be sent, to run alone.
    Lonely(Attempt),
    /// Its payload is on its way to a worker.
    Uploading(Upload),
    /// It waits until then.
    Waiting(Instant, Attempt),
}

/// Numbers that are neither settled nor in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    todo: SpanMap<Todo>,
    /// Like `todo`, for numbers that were in flight at too many deaths.
    lonely: BTreeMap<u64, Attempt>,
    /// Numbers whose payload goes ahead in parts; at most [`UPLOADS_AT_ONCE`].
    uploads: BTreeMap<u64, Upload>,
    waiting: BTreeMap<u64, (Instant, Attempt)>,
    due: BTreeSet<(Instant, u64)>,
    /// Worker deaths that unsettled numbers were in flight at.
    deaths: BTreeMap<u64, u32>,
}

impl Work {
    /// Puts numbers up to be sent.
    pub(crate) fn add(&mut self, (first, last): Span, todo: Todo) {
        self.todo.insert((first, last), todo);
        let lonely: Vec<u64> = self.lonely_in((first, last)).collect();
        for number in lonely {
            self.todo.remove((number, number));
            self.lonely.insert(number, todo.attempt);
        }
    }

    fn lonely_in(&self, (first, last): Span) -> impl Iterator<Item = u64> {
        let deaths = self.deaths.range(first..=last);
        deaths
            .filter(|(_, count)| **count >= DEATHS_BEFORE_ALONE)
            .map(|(number, _)| *number)
    }

    /// Lets a number wait for its next attempt.
    pub(crate) fn wait(&mut self, number: u64, attempt: Attempt, due: Instant) {
        self.remove((number, number));
        self.waiting.insert(number, (due, attempt));
        self.due.insert((due, number));
    }

    /// Puts up what has waited for long enough.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some(&(due, number)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, number));
            if let Some((_, attempt)) = self.waiting.remove(&number) {
                self.add((number, number), Todo { attempt, resend: true });
            }
        }
    }

    /// Takes numbers out, wherever they are.
    pub(crate) fn remove(&mut self, (first, last): Span) {
        self.todo.remove((first, last));
        take_range(&mut self.lonely, (first, last));
        take_range(&mut self.uploads, (first, last));
        for (number, (due, _)) in take_range(&mut self.waiting, (first, last)) {
            self.due.remove(&(due, number));
        }
    }

    /// Numbers settled: their history goes with them.
    pub(crate) fn settle(&mut self, span: Span) {
        self.remove(span);
        take_range(&mut self.deaths, span);
    }

    /// Whether a number is here at this attempt or a higher one.
    pub(crate) fn has(&self, number: u64, attempt: Attempt) -> bool {
        let found = self.place(number).map(|place| match place {
            Place::Ready(todo) => todo.attempt,
            Place::Lonely(found) | Place::Waiting(_, found) => found,
            Place::Uploading(upload) => upload.todo.attempt,
        });
        found.is_some_and(|found| found >= attempt)
    }

    /// Where a number is, if it is here.
    pub(crate) fn place(&self, number: u64) -> Option<Place> {
        let ready = self.todo.value(number).map(Place::Ready);
        let waiting = || {
            self.waiting
                .get(&number)
                .map(|(due, attempt)| Place::Waiting(*due, *attempt))
        };
        let lonely = || self.lonely.get(&number).map(|attempt| Place::Lonely(*attempt));
        let uploading = || self.uploads.get(&number).map(|upload| Place::Uploading(*upload));
        ready.or_else(waiting).or_else(lonely).or_else(uploading)
    }

    /// The numbers that may be sent, but for those that run alone.
    pub(crate) fn ready(&self) -> impl Iterator<Item = Run<Todo>> {
        self.todo.iter()
    }

    /// How many of these from `first` on, and below `end`, may be sent.
    pub(crate) fn count_within(&self, first: u64, end: u64, may: impl Fn(Todo) -> bool) -> u64 {
        let Some(last) = end.checked_sub(1).filter(|last| *last >= first) else {
            return 0;
        };
        let runs = self.todo.within((first, last)).filter(|run| may(run.value));
        runs.map(|run| run.count()).sum()
    }

    /// The numbers that must run alone and may be sent now.
    pub(crate) fn lonely_numbers(&self) -> impl Iterator<Item = u64> {
        self.lonely.keys().copied()
    }

    /// How many of these are below a number.
    pub(crate) fn lonely_below(&self, number: u64) -> u64 {
        self.lonely.range(..number).count() as u64
    }

    /// The number that has its next attempt first, and when.
    pub(crate) fn next_retry(&self) -> Option<(Instant, u64)> {
        self.due.first().copied()
    }

    /// Takes the lowest numbers that may be sent.
    pub(crate) fn take(&mut self, most: u64, may: impl Fn(Todo) -> bool) -> Option<Run<Todo>> {
        self.todo.pop_first(most, may)
    }

    /// Takes the lowest numbers above `floor`, for a takeover that has not located everything yet.
    pub(crate) fn take_above(&mut self, floor: u64, most: u64, may: impl Fn(Todo) -> bool) -> Option<Run<Todo>> {
        let run = self.todo.within((floor, u64::MAX)).find(|run| may(run.value))?;
        let last = run.last.min(run.first.saturating_add(most.max(1) - 1));
        self.todo.remove((run.first, last));
        Some(Run { last, ..run })
    }

    /// Whether a number was in flight at too many deaths, wherever it is.
    pub(crate) fn is_lonely(&self, number: u64) -> bool {
        self.lonely_in((number, number)).next().is_some()
    }

    /// Takes the lowest number that must run alone.
    pub(crate) fn take_lonely(&mut self) -> Option<(u64, Attempt)> {
        self.lonely.pop_first()
    }

    /// The payload of a number begins to go ahead.
    pub(super) fn begin_upload(&mut self, number: u64, upload: Upload) {
        self.uploads.insert(number, upload);
    }

    /// What goes ahead, and how far it is.
    pub(super) fn uploads(&self) -> impl Iterator<Item = (u64, &Upload)> {
        self.uploads.iter().map(|(number, upload)| (*number, upload))
    }

    pub(super) fn upload(&mut self, number: u64) -> Option<&mut Upload> {
        self.uploads.get_mut(&number)
    }

    /// Whether the payload of one more number may go ahead to a worker.
    pub(super) fn may_upload(&self, link: LinkId) -> bool {
        self.uploads.len() < UPLOADS_AT_ONCE && self.uploads.values().all(|upload| upload.link != link)
    }

    /// What went ahead of a number was in vain: it is to be sent anew.
    pub(super) fn give_up_upload(&mut self, number: u64) {
        if let Some(upload) = self.uploads.remove(&number) {
            self.add((number, number), upload.todo);
        }
    }

    /// One more death while this number was in flight.
    pub(crate) fn count_death(&mut self, number: u64) {
        let count = self.deaths.entry(number).or_default();
        *count += 1;
        if *count >= DEATHS_BEFORE_ALONE
            && let Some(run) = self.todo.remove((number, number)).first()
        {
            self.lonely.insert(number, run.value.attempt);
        }
    }

    /// How many deaths a number was in flight at.
    pub(crate) fn deaths(&self, number: u64) -> u32 {
        self.deaths.get(&number).copied().unwrap_or_default()
    }

    /// Replaces all counts of deaths by what the collector says.
    pub(crate) fn replace_deaths(&mut self, deaths: BTreeMap<u64, u32>) {
        self.deaths = deaths;
    }

    /// Numbers that were never sent.
    pub(crate) fn fresh(&self) -> SpanMap<Todo> {
        let mut fresh = SpanMap::default();
        for run in self.todo.iter().filter(|run| !run.value.resend) {
            fresh.insert((run.first, run.last), run.value);
        }
        for (number, upload) in self.uploads.iter().filter(|(_, upload)| !upload.todo.resend) {
            fresh.insert((*number, *number), upload.todo);
        }
        fresh
    }

    /// Drops all numbers, but not the counts of deaths.
    pub(crate) fn clear(&mut self) {
        self.todo.clear();
        self.lonely.clear();
        self.uploads.clear();
        self.waiting.clear();
        self.due.clear();
    }

    /// Numbers that may be sent now, or whose payload goes ahead.
    pub(crate) fn len(&self) -> u64 {
        self.todo.len() + self.lonely.len() as u64 + self.uploads.len() as u64
    }

    /// Numbers that must run alone and may be sent now.
    pub(crate) fn lonely(&self) -> usize {
        self.lonely.len()
    }

    /// Numbers that wait for their next attempt.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the next number has waited for long enough.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(crate) fn sanity_check(&self) {
        self.todo.sanity_check();
        assert_eq!(self.waiting.len(), self.due.len(), "waiting numbers");
        let elsewhere = self.lonely.keys().chain(self.waiting.keys()).chain(self.uploads.keys());
        let mut seen = BTreeSet::new();
        for number in elsewhere {
            assert!(self.todo.value(*number).is_none(), "{number} is in two places");
            assert!(seen.insert(*number), "{number} is in two places besides");
        }
    }
}

/// Takes the entries of a range out of a map.
pub(crate) fn take_range<V>(map: &mut BTreeMap<u64, V>, (first, last): Span) -> Vec<(u64, V)> {
    if map.is_empty() {
        return Vec::new();
    }
    let keys: Vec<u64> = map.range(first..=last).map(|(key, _)| *key).collect();
    keys.into_iter().filter_map(|key| map.remove_entry(&key)).collect()
}
