//! The judge: it sees what the parties say and what is durable, and knows what the oracle knows.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::{Attempt, BatchUid, Epoch};
use harmony_protocol::wire::{Done, Ending, Message, OutcomeCode, ResultEntry, Span, StateBody};

use crate::facts::Facts;
use crate::tasks::{Nature, Tasks};

/// How a ventilator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The batch is over.
    Done(Done),
    /// Another ventilator has it.
    Fenced(Epoch),
    /// It gave up.
    Failed(String),
}

/// What the judge knows of one batch.
#[derive(Debug, Default)]
struct Case {
    /// Numbers that a ventilator was told are settled.
    reported: BTreeSet<u64>,
    executions: u64,
    /// Attempts that ran, by number.
    runs: BTreeMap<u64, Vec<Attempt>>,
    /// Executions beyond N that faults explain.
    explained: u64,
    /// What workers announced to run alone.
    announced: BTreeSet<(u64, Attempt)>,
    /// The log was lost: what was reported may be missing.
    wiped: bool,
}

/// The judge.
#[derive(Debug, Default)]
pub struct Checker {
    cases: BTreeMap<BatchUid, Case>,
    /// How each ventilator ended, with its batch.
    pub verdicts: Vec<(BatchUid, Verdict)>,
}

impl Checker {
    fn case(&mut self, uid: BatchUid) -> &mut Case {
        self.cases.entry(uid).or_default()
    }

    /// A worker runs a task.
    pub fn runs(&mut self, tasks: &Tasks, number: u64, attempt: Attempt) {
        assert!(number < tasks.completions, "{number} is out of range, yet it runs");
        assert!(
            attempt <= tasks.backoff_limit + 1,
            "{number}@{attempt} is one attempt too many"
        );
        let case = self.case(tasks.uid);
        case.executions += 1;
        case.runs.entry(number).or_default().push(attempt);
    }

    /// A worker said that a task is about to run alone.
    pub fn announces(&mut self, uid: BatchUid, task: (u64, Attempt)) {
        self.case(uid).announced.insert(task);
    }

    /// A fault happened while that many numbers were in flight: each of them may run once more.
    pub fn explain(&mut self, uid: BatchUid, in_flight: u64) {
        self.case(uid).explained += in_flight;
    }

    /// The log of the batch was lost.
    pub fn wiped(&mut self, uid: BatchUid) {
        let case = self.case(uid);
        case.wiped = true;
        case.reported.clear();
    }

    /// The collector says something to a ventilator: all of it must be durable.
    pub fn hears(&mut self, tasks: &Tasks, message: &Message, durable: &Facts) {
        let case = self.cases.entry(tasks.uid).or_default();
        match message {
            Message::Report(report) => {
                case.settled(&report.succeeded, durable, "REPORT", true);
                case.settled(&report.failed, durable, "REPORT", false);
                for retry in &report.retries {
                    let known = durable.attempt(retry.number);
                    assert!(
                        retry.attempt <= known,
                        "REPORT says {retry:?}, durable is attempt {known}"
                    );
                }
            }
            Message::State(state) => {
                let StateBody::Collector(state) = &state.body else {
                    panic!("the collector sends the STATE of a worker");
                };
                // Later claims may have become durable since, but none is told before.
                assert!(
                    state.epoch <= durable.epoch(),
                    "epoch {} in STATE is not durable",
                    state.epoch
                );
                case.settled(&state.succeeded, durable, "STATE", true);
                case.settled(&state.failed, durable, "STATE", false);
            }
            Message::Done(done) => assert_eq!(Some(done), durable.ended.as_ref(), "DONE is not durable"),
            Message::Missing(missing) => {
                for number in missing.spans.iter().flat_map(|(first, last)| *first..=*last) {
                    assert!(
                        number < tasks.completions,
                        "MISSING names {number}, which is out of range"
                    );
                }
            }
            _ => {}
        }
    }

    /// The collector disposes of outcomes: each must be durable, or of no use.
    pub fn acked(entries: &[ResultEntry], durable: &Facts) {
        for entry in entries {
            let settled = durable.settled.contains_key(&entry.number) || durable.ended.is_some();
            let failure = entry.outcome != OutcomeCode::Succeeded;
            let charged = failure && durable.attempt(entry.number) > entry.attempt;
            assert!(settled || charged, "ACK of {entry:?}, which is not durable");
        }
    }

    /// A ventilator ended.
    pub fn ends(&mut self, uid: BatchUid, verdict: Verdict) {
        self.verdicts.push((uid, verdict));
    }

    /// The end of a run: what is durable is judged against the oracle.
    pub fn close(&self, tasks: &Tasks, durable: &Facts, calm: bool) {
        let case = self.cases.get(&tasks.uid).expect("every batch began");
        let done = durable.ended.as_ref().expect("the batch ended");
        let verdicts: Vec<_> = self
            .verdicts
            .iter()
            .filter(|(uid, _)| *uid == tasks.uid)
            .map(|(_, v)| v)
            .collect();
        assert!(
            verdicts.iter().any(|v| matches!(v, Verdict::Done(_))),
            "nobody heard the end: {verdicts:?}"
        );
        for verdict in verdicts {
            match verdict {
                Verdict::Done(told) => assert_eq!(told, done, "another end was told"),
                Verdict::Fenced(_) => {}
                Verdict::Failed(reason) => panic!("a ventilator gave up: {reason}"),
            }
        }
        for number in &case.reported {
            let known = durable.settled.contains_key(number) || durable.damaged.contains(number);
            assert!(known, "{number} was reported and is lost");
        }
        let failed = durable
            .settled
            .values()
            .filter(|end| end.outcome != OutcomeCode::Succeeded)
            .count() as u64;
        assert_eq!(done.counts.failed, failed, "failed numbers in DONE");
        assert_eq!(
            done.counts.succeeded + failed,
            durable.settled.len() as u64,
            "numbers in DONE"
        );
        assert_eq!(done.counts.differing, 0, "duplicates with other bytes");
        self.check_charges(tasks, durable);
        if done.ending != Ending::Complete {
            return;
        }
        let missing: Vec<u64> = (0..tasks.completions)
            .filter(|n| !durable.settled.contains_key(n))
            .collect();
        assert!(missing.is_empty(), "complete, yet missing: {missing:?}");
        for (number, end) in &durable.settled {
            Self::check_end(tasks, *number, end.outcome, durable);
        }
        self.check_waste(tasks, durable, calm);
    }

    fn check_end(tasks: &Tasks, number: u64, outcome: OutcomeCode, durable: &Facts) {
        let lost = (1..=tasks.backoff_limit + 1)
            .filter(|attempt| durable.charged.get(&(number, *attempt)) == Some(&OutcomeCode::WorkerLost))
            .count();
        let expected = match tasks.nature(number) {
            Nature::Good => outcome == OutcomeCode::Succeeded,
            Nature::Flaky(until) => (outcome == OutcomeCode::Succeeded) == (until <= tasks.backoff_limit),
            Nature::Bad => outcome == OutcomeCode::ExitCode,
            Nature::Poison => outcome == OutcomeCode::WorkerLost,
            Nature::TooLarge => outcome == OutcomeCode::PayloadTooLarge,
        };
        assert!(
            expected || lost > 0,
            "{number}, which is {:?}, ended by {outcome:?}",
            tasks.nature(number)
        );
    }

    /// An attempt is charged to a lost worker only if that had announced to run it alone. Whether it really died is not
    /// asked: who is cut off for half a minute counts as dead.
    fn check_charges(&self, tasks: &Tasks, durable: &Facts) {
        let Some(case) = self.cases.get(&tasks.uid) else { return };
        for ((number, attempt), outcome) in &durable.charged {
            if *outcome != OutcomeCode::WorkerLost {
                continue;
            }
            assert!(
                case.announced.contains(&(*number, *attempt)),
                "{number}@{attempt} is charged, yet no worker had said that it runs it alone"
            );
            let deaths = durable.deaths.get(number).copied().unwrap_or_default();
            // A lost log has forgotten deaths that the ventilator knows, and the death of a process that had been taken
            // for dead before counts only once there.
            assert!(
                deaths > 1 || case.wiped,
                "{number}@{attempt} is charged after {deaths} deaths"
            );
        }
    }

    fn check_waste(&self, tasks: &Tasks, durable: &Facts, calm: bool) {
        let Some(case) = self.cases.get(&tasks.uid) else { return };
        // A number whose record was damaged begins anew, at its first attempt.
        let again = durable.damages * (u64::from(tasks.backoff_limit) + 1);
        let retried = durable.charged.len() as u64 + again;
        let most = tasks.completions + retried + if calm { 0 } else { case.explained };
        let often: Vec<_> = case.runs.iter().filter(|(_, runs)| runs.len() > 1).take(20).collect();
        assert!(
            case.executions <= most,
            "{} executions, {most} are explained: {often:?}",
            case.executions
        );
    }
}

impl Case {
    fn settled(&mut self, spans: &[Span], durable: &Facts, what: &str, succeeded: bool) {
        for number in spans.iter().flat_map(|(first, last)| *first..=*last) {
            let end = durable.settled.get(&number);
            let known = end.is_some_and(|end| (end.outcome == OutcomeCode::Succeeded) == succeeded);
            // A number found damaged meanwhile is in the MISSING that follows.
            let known = known || durable.damaged.contains(&number);
            assert!(known, "{what} says that {number} is settled, durable is {end:?}");
            self.reported.insert(number);
        }
    }
}
