//! One batch at a worker: what it holds, from receipt to the collector's ack.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use super::credit::Door;
use super::outcomes::Outcomes;
use super::payloads::{Payload, Payloads};
use super::{Finished, Task};
use crate::durations::{Durations, micros};
use crate::ids::{Alias, Attempt, Epoch, InstanceId, LinkId};
use crate::mutant::{self, Mutant};
use crate::wire::{Holding, OutcomeCode, ResultEntry, Span, Start, Work};

/// Whether the executor can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Preparing,
    /// The executor takes this many tasks at once.
    Ready {
        window: usize,
    },
    Broken(String),
}

/// How far a number has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Queued,
    Running,
    Done { succeeded: bool },
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    attempt: Attempt,
    progress: Progress,
    /// An earlier attempt failed, and that is not acked yet.
    unacked: Option<Attempt>,
}

impl Hold {
    fn queued(attempt: Attempt, unacked: Option<Attempt>) -> Self {
        Self {
            attempt,
            progress: Progress::Queued,
            unacked,
        }
    }
}

/// Spreads task numbers over a table so that neighbours stay neighbours: tasks come, run and are acked in runs of numbers, and
/// the table is larger than the caches near the core. Not for keys that a peer may choose freely: numbers are bounded by credit.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

/// Bits of a number that keep their order in the table: a page or two of it.
const NEIGHBOURS: u32 = 8;

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4) of the neighbourhood says where it lies;
        // the table takes the low bits as the place and the high ones as a tag.
        let place = spread(number >> NEIGHBOURS) >> 32;
        let tag = spread(number) & !(u64::MAX >> 7);
        self.0 = tag | place.wrapping_add(number & ((1 << NEIGHBOURS) - 1));
    }
}

const fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A task that waits.
#[derive(Clone, Debug)]
struct Waiting {
    task: Task,
    since: Instant,
}

/// The link to the collector, as one batch sees it.
#[derive(Clone, Debug)]
pub(crate) enum Uplink {
    /// No link; since when.
    None(Instant),
    /// BIND is sent; since when there was no bound link before.
    Binding { link: LinkId, alias: Alias, since: Instant },
    /// The collector takes outcomes.
    Bound { link: LinkId, alias: Alias },
}

/// One batch.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) epoch: Epoch,
    pub(crate) instance: InstanceId,
    /// N, if a ventilator has said it.
    pub(crate) completions: Option<u64>,
    pub(crate) work: Work,
    pub(crate) stage: Stage,
    /// The ventilators that started it here; true once STATE was sent.
    pub(crate) doors: BTreeMap<Door, bool>,
    pub(crate) uplink: Uplink,
    /// When BIND is to be tried again after it was refused.
    pub(crate) rebind: Option<Instant>,
    /// Since when there is no ventilator.
    pub(crate) alone_since: Option<Instant>,
    queue: VecDeque<Waiting>,
    queue_bytes: u64,
    /// Higher attempts of numbers that still run.
    behind: BTreeMap<u64, Waiting>,
    held: HashMap<u64, Hold, BuildHasherDefault<NumberHasher>>,
    running: usize,
    pub(super) payloads: Payloads,
    pub(crate) outcomes: Outcomes,
}

impl Batch {
    pub(crate) fn new(now: Instant, start: &Start, work: Work) -> Self {
        Self {
            epoch: start.epoch,
            instance: start.instance,
            completions: start.completions,
            work,
            stage: Stage::Preparing,
            doors: BTreeMap::new(),
            uplink: Uplink::None(now),
            rebind: None,
            alone_since: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            behind: BTreeMap::new(),
            held: HashMap::default(),
            running: 0,
            payloads: Payloads::default(),
            outcomes: Outcomes::default(),
        }
    }

    /// Takes a task in. One copy per number: the same attempt again is ignored, a higher one takes the place of a
    /// queued one, waits behind a running one, and starts over after a failed one.
    pub(crate) fn take(&mut self, now: Instant, task: Task) {
        let Some(hold) = self.held.get_mut(&task.number) else {
            self.held.insert(task.number, Hold::queued(task.attempt, None));
            return self.enqueue(Waiting { task, since: now });
        };
        if hold.attempt >= task.attempt {
            if mutant::on(Mutant::SecondCopy) {
                self.enqueue(Waiting { task, since: now });
            } else {
                self.payloads.drop(&task.payload);
            }
            return;
        }
        match hold.progress {
            Progress::Queued => {
                hold.attempt = task.attempt;
                for replaced in self.unqueue(|queued| queued.number == task.number) {
                    self.payloads.drop(&replaced.payload);
                }
                self.enqueue(Waiting { task, since: now });
            }
            Progress::Running => {
                if let Some(replaced) = self.behind.insert(task.number, Waiting { task, since: now }) {
                    self.payloads.drop(&replaced.task.payload);
                }
            }
            Progress::Done { succeeded: true } => self.payloads.drop(&task.payload),
            Progress::Done { succeeded: false } => {
                *hold = Hold::queued(task.attempt, Some(hold.attempt));
                self.enqueue(Waiting { task, since: now });
            }
        }
    }

    fn enqueue(&mut self, waiting: Waiting) {
        self.queue_bytes += waiting.task.payload.held();
        self.queue.push_back(waiting);
    }

    /// Takes queued tasks out.
    fn unqueue(&mut self, mut test: impl FnMut(&Task) -> bool) -> Vec<Task> {
        let (out, rest): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(|waiting| test(&waiting.task));
        self.queue = rest.into();
        let out: Vec<Task> = out.into_iter().map(|waiting| waiting.task).collect();
        self.queue_bytes -= out.iter().map(|task| task.payload.held()).sum::<u64>();
        out
    }

    /// The task that runs next.
    pub(crate) fn front(&self) -> Option<&Task> {
        self.queue.front().map(|waiting| &waiting.task)
    }

    /// Takes the next tasks to run: up to `most`, and none after one that must run alone. Notes how long they waited.
    pub(crate) fn start(&mut self, now: Instant, most: usize, waits: &mut Durations) -> Vec<Task> {
        let mut started = Vec::with_capacity(most.min(self.queue.len()));
        while started.len() < most && self.front().is_some_and(|task| !task.alone || started.is_empty()) {
            let Some(Waiting { task, since }) = self.queue.pop_front() else {
                break;
            };
            waits.add(micros(now.saturating_duration_since(since)));
            self.queue_bytes -= task.payload.held();
            self.payloads.start(task.number, &task.payload);
            if let Some(hold) = self.held.get_mut(&task.number) {
                hold.progress = Progress::Running;
            }
            let alone = task.alone;
            started.push(task);
            if alone {
                break;
            }
        }
        self.running += started.len();
        started
    }

    /// A task finished. False if it was not running here, so that nothing is to be said about it.
    pub(crate) fn finish(&mut self, now: Instant, finished: &Finished) -> bool {
        let running = self.held.get_mut(&finished.number);
        let Some(hold) = running.filter(|h| h.progress == Progress::Running && h.attempt == finished.attempt) else {
            return false;
        };
        let succeeded = finished.outcome == OutcomeCode::Succeeded;
        hold.progress = Progress::Done { succeeded };
        self.running -= 1;
        self.payloads.end(finished.number);
        if !self.behind.is_empty()
            && let Some(next) = self.behind.remove(&finished.number)
        {
            if succeeded {
                self.payloads.drop(&next.task.payload);
            } else {
                *hold = Hold::queued(next.task.attempt, Some(hold.attempt));
                self.enqueue(next);
            }
        }
        self.outcomes.push(now, finished);
        true
    }

    /// What counted as a success has failed after all.
    pub(crate) fn fail(&mut self, number: u64, attempt: Attempt) {
        if let Some(hold) = self.held.get_mut(&number).filter(|hold| hold.attempt == attempt) {
            hold.progress = Progress::Done { succeeded: false };
        }
    }

    /// A running task was stopped before it finished. Returns what is to be handed back.
    pub(crate) fn stopped(&mut self, number: u64, attempt: Attempt) -> Option<(u64, Attempt)> {
        let hold = *self.held.get(&number)?;
        if hold.progress != Progress::Running || hold.attempt != attempt {
            return None;
        }
        self.running -= 1;
        self.payloads.end(number);
        self.unhold(number);
        let next = self.behind.remove(&number);
        if let Some(next) = &next {
            self.payloads.drop(&next.task.payload);
        }
        Some((number, next.map_or(attempt, |next| next.task.attempt)))
    }

    /// Takes queued tasks out to hand them back: those in the spans, or all.
    pub(crate) fn give_back(&mut self, spans: Option<&[Span]>) -> Vec<(u64, Attempt)> {
        let wanted = |number: u64| spans.is_none_or(|spans| contains(spans, number));
        let tasks = self.unqueue(|task| wanted(task.number));
        for task in &tasks {
            self.payloads.drop(&task.payload);
            self.unhold(task.number);
        }
        tasks.iter().map(|task| (task.number, task.attempt)).collect()
    }

    /// A number is not held any more, but for what is unacked of its earlier attempts.
    fn unhold(&mut self, number: u64) {
        let Some(hold) = self.held.get_mut(&number) else {
            return;
        };
        match hold.unacked.take() {
            None => drop(self.held.remove(&number)),
            Some(attempt) => {
                let progress = Progress::Done { succeeded: false };
                *hold = Hold {
                    attempt,
                    progress,
                    unacked: None,
                };
            }
        }
    }

    /// The running numbers in the spans, or all.
    pub(crate) fn running_in(&self, spans: Option<&[Span]>) -> Vec<u64> {
        let running = self
            .held
            .iter()
            .filter(|(_, hold)| hold.progress == Progress::Running)
            .map(|(number, _)| *number);
        let numbers: BTreeSet<_> = running
            .filter(|n| spans.is_none_or(|spans| contains(spans, *n)))
            .collect();
        numbers.into_iter().collect()
    }

    /// Outcomes that the collector disposed of.
    pub(crate) fn forget<'a>(&mut self, entries: impl Iterator<Item = &'a ResultEntry>) {
        for entry in entries {
            let Some(hold) = self.held.get_mut(&entry.number) else {
                continue;
            };
            if hold.unacked == Some(entry.attempt) {
                hold.unacked = None;
            } else if hold.attempt == entry.attempt && matches!(hold.progress, Progress::Done { .. }) {
                self.held.remove(&entry.number);
            }
        }
    }

    /// Unfinished tasks, and the bytes of those that wait.
    pub(crate) fn unfinished(&self) -> (u64, u64) {
        (
            (self.queue.len() + self.behind.len() + self.running) as u64,
            self.queue_bytes,
        )
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Whether anything is queued, running or unacked.
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty() || !self.outcomes.is_empty()
    }

    /// Everything held, as runs of one attempt.
    pub(crate) fn holdings(&self) -> Vec<Holding> {
        let numbers: BTreeMap<u64, Attempt> = self.held.iter().map(|(number, hold)| (*number, hold.attempt)).collect();
        runs(numbers)
    }

    /// Which of these numbers are held.
    pub(crate) fn held_in(&self, spans: &[Span]) -> Vec<Span> {
        let numbers: BTreeMap<u64, Attempt> = self
            .held
            .keys()
            .filter(|number| contains(spans, **number))
            .map(|number| (*number, 1))
            .collect();
        runs(numbers).into_iter().map(|run| (run.first, run.last)).collect()
    }

    /// The link on which outcomes go, or will go.
    pub(crate) fn uplink_link(&self) -> Option<LinkId> {
        match self.uplink {
            Uplink::None(_) => None,
            Uplink::Binding { link, .. } | Uplink::Bound { link, .. } => Some(link),
        }
    }

    /// Since when there is no bound link to the collector.
    pub(crate) fn unbound_since(&self) -> Option<Instant> {
        match self.uplink {
            Uplink::None(since) | Uplink::Binding { since, .. } => Some(since),
            Uplink::Bound { .. } => None,
        }
    }

    /// Whether there is neither a ventilator nor a bound link to the collector.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.alone_since.is_some() && self.unbound_since().is_some()
    }

    /// The link to the collector is gone, if it was this one.
    pub(crate) fn unbind(&mut self, now: Instant, link: LinkId) {
        if self.uplink_link() == Some(link) {
            self.uplink = Uplink::None(self.unbound_since().unwrap_or(now));
            self.outcomes.unsend();
        }
    }

    /// Tasks that one slot takes at once; none while the executor is not ready.
    pub(crate) fn depth(&self, slots: usize) -> Option<usize> {
        match self.stage {
            Stage::Ready { window } => Some((window / slots).max(1)),
            Stage::Preparing | Stage::Broken(_) => None,
        }
    }

    /// Slots that the running tasks of this batch occupy.
    pub(crate) fn used_slots(&self, slots: usize) -> usize {
        self.depth(slots).map_or(0, |depth| self.running.div_ceil(depth))
    }

    /// Whether a ventilator may get credit: it has its STATE, and outcomes have somewhere to go.
    pub(crate) fn may_grant(&self, door: Door) -> bool {
        let ready = matches!(self.stage, Stage::Ready { .. }) && self.doors.get(&door).is_some_and(|open| *open);
        ready && self.outcomes.has_room(self.work.max_bytes_per_task)
    }

    pub(crate) fn sanity_check(&self) {
        let queued = self
            .held
            .values()
            .filter(|hold| hold.progress == Progress::Queued)
            .count();
        assert_eq!(queued, self.queue.len(), "queued numbers");
        let running = self
            .held
            .values()
            .filter(|hold| hold.progress == Progress::Running)
            .count();
        assert_eq!(running, self.running, "running numbers");
        let bytes: u64 = self.queue.iter().map(|waiting| waiting.task.payload.held()).sum();
        assert_eq!(bytes, self.queue_bytes, "queued bytes");
        let waiting = self.queue.iter().chain(self.behind.values());
        self.payloads.sanity_check(
            waiting
                .filter(|waiting| matches!(waiting.task.payload, Payload::Kept { .. }))
                .count(),
        );
        assert!(
            self.behind.keys().all(|number| self.held.contains_key(number)),
            "behind nothing"
        );
        self.outcomes.sanity_check();
        for (number, _) in self.outcomes.kept() {
            assert!(self.held.contains_key(&number), "an unacked outcome that is not held");
        }
    }
}

fn contains(spans: &[Span], number: u64) -> bool {
    spans.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// Numbers with their attempts as runs.
pub(crate) fn runs(numbers: impl IntoIterator<Item = (u64, Attempt)>) -> Vec<Holding> {
    let mut runs: Vec<Holding> = Vec::new();
    for (number, attempt) in numbers {
        match runs.last_mut() {
            Some(run) if run.last.checked_add(1) == Some(number) && run.attempt == attempt => run.last = number,
            _ => runs.push(Holding {
                first: number,
                last: number,
                attempt,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::ids::BatchUid;
    use crate::wire::{Executor, Message};
    use crate::worker::outcomes::Next;

    fn batch(now: Instant) -> Batch {
        let work = Work {
            executor: Executor::Library,
            collector: String::new(),
            max_bytes_per_task: 1,
            deadline_millis: None,
        };
        let start = Start {
            uid: BatchUid(Uuid::nil()),
            name: String::new(),
            epoch: 1,
            instance: InstanceId(Uuid::nil()),
            completions: None,
            policy: None,
            work: None,
        };
        Batch::new(now, &start, work)
    }

    fn task(attempt: Attempt) -> Task {
        Task {
            number: 7,
            attempt,
            payload: Bytes::new().into(),
            alone: false,
        }
    }

    #[test]
    fn an_unacked_failure_stays_held_when_its_next_attempt_is_handed_back() {
        let now = Instant::now();
        let mut batch = batch(now);
        batch.take(now, task(1));
        batch.start(now, 1, &mut Durations::default());
        let failed = Finished {
            number: 7,
            attempt: 1,
            outcome: OutcomeCode::ExitCode,
            code: 1,
            start_micros: 0,
            duration_micros: 0,
            output: Bytes::new(),
            spooled: None,
            log: Bytes::new(),
        };
        assert!(batch.finish(now, &failed));
        batch.take(now, task(2));
        batch.sanity_check();
        assert_eq!(batch.give_back(None), [(7, 2)]);
        batch.sanity_check();
        assert_eq!(batch.held_in(&[(0, 10)]), [(7, 7)], "its first attempt is not acked");
        let sent = batch.outcomes.poll(now, 1, u64::MAX);
        assert!(
            matches!(sent, Some(Next::Send(Message::Results(_), _))),
            "the outcome of its first attempt"
        );
        let (messages, _) = batch.outcomes.acked(1);
        batch.forget(messages.iter().flat_map(|message| &message.entries));
        batch.sanity_check();
        assert!(!batch.holds_any());
    }
}
