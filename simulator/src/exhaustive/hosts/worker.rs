//! A worker: a task takes until its step comes.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use harmony_protocol::ids::{Attempt, Epoch, LinkId};
use harmony_protocol::wire::{self, Frames, Message, OutcomeCode};
use harmony_protocol::worker::{Config, Finished, Output, Task, Worker};

use super::{Context, Input, UID};
use crate::exhaustive::Scope;
use crate::exhaustive::step::Work;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::exhaustive) struct WorkerHost {
    pub(super) machine: Worker,
    pub(super) running: VecDeque<(u64, Attempt)>,
    /// The highest epoch that it was shown.
    epoch: Epoch,
}

impl WorkerHost {
    pub(super) fn new(config: Config) -> Self {
        Self {
            machine: Worker::new(config),
            running: VecDeque::new(),
            epoch: 0,
        }
    }

    pub(super) fn take(&mut self, context: &mut Context<'_>, input: Input) {
        let now = context.now;
        match input {
            Input::Begin => {}
            Input::Opened(link) => self.machine.handle_link_opened(now, link),
            Input::Closed(link) => self.machine.handle_link_closed(now, link),
            Input::Message(link, frames) => self.take_message(now, link, &frames),
            Input::Timer => self.machine.handle_timeout(now),
            Input::Finish(Work::Task(number)) => {
                let position = self.running.iter().position(|(running, _)| *running == number);
                let task = position.and_then(|position| self.running.remove(position));
                let (number, attempt) = task.expect("a task that runs ends");
                self.machine
                    .handle_finished(now, UID, vec![outcome(context.scope, number, attempt)]);
            }
            Input::Finish(work) => panic!("not for a worker: {work:?}"),
        }
        self.drain(context);
        self.machine.sanity_check();
    }

    /// Tasks of an epoch below the highest one shown must not be taken in.
    fn take_message(&mut self, now: Instant, link: LinkId, frames: &Frames) {
        let before = self.machine.unfinished();
        self.machine.handle_message(now, link, frames);
        match wire::decode(frames) {
            Ok((_, Message::Start(start))) => self.epoch = self.epoch.max(start.epoch),
            Ok((_, Message::Tasks(tasks))) => {
                let taken = self.machine.unfinished() > before;
                assert!(
                    !taken || tasks.epoch >= self.epoch,
                    "tasks of epoch {} after {}",
                    tasks.epoch,
                    self.epoch
                );
            }
            _ => {}
        }
    }

    fn drain(&mut self, context: &mut Context<'_>) {
        while let Some(output) = self.machine.poll_output(context.now) {
            match output {
                Output::Link(output) => context.out.push(output),
                Output::Prepare { .. } => self.machine.handle_prepared(context.now, UID, Ok(1)),
                Output::Run { tasks, .. } => {
                    for Task {
                        number,
                        attempt,
                        payload,
                        ..
                    } in tasks
                    {
                        let expected = Bytes::copy_from_slice(&number.to_be_bytes());
                        assert_eq!(payload, expected.into(), "the payload of {number}");
                        context.ledger.runs(number, attempt, context.faults);
                        self.running.push_back((number, attempt));
                    }
                    assert!(
                        self.running.len() <= 1,
                        "more than one task in one slot: {:?}",
                        self.running
                    );
                }
                Output::Release { .. } => {
                    self.running.clear();
                    self.epoch = 0;
                }
                Output::ReadPiece { .. } | Output::Unspool { .. } => panic!("no output is that long"),
                Output::Keep { .. } | Output::Discard { .. } => panic!("no payload is that long"),
                Output::ExtendDeadlines(_) => {}
                Output::Stop { .. } | Output::Exit => panic!("nobody asked for {output:?}"),
            }
        }
    }
}

fn outcome(scope: &Scope, number: u64, attempt: Attempt) -> Finished {
    let failed = scope.flaky == Some(number) && attempt == 1;
    Finished {
        number,
        attempt,
        outcome: if failed {
            OutcomeCode::ExitCode
        } else {
            OutcomeCode::Succeeded
        },
        code: i32::from(failed),
        start_micros: 0,
        duration_micros: 0,
        output: Bytes::new(),
        spooled: None,
        log: Bytes::new(),
    }
}
