//! The ventilator: its source are the numbers themselves.

use std::ops::Range;

use harmony_protocol::Identity;
use harmony_protocol::ids::{Epoch, InstanceId};
use harmony_protocol::ventilator::{Config, Cut, Event, Output, Payloads, Ventilator};
use harmony_protocol::wire::{self, Executor, Message, Policy};

use super::{COLLECTOR, Context, Input, UID, decoded, worker_name};
use crate::exhaustive::{Plant, Scope};

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::exhaustive) struct VentilatorHost {
    pub(super) machine: Ventilator,
    pub(super) over: bool,
}

struct Numbers;

impl Payloads for Numbers {
    fn append(&mut self, number: u64, _range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, String> {
        buffer.extend_from_slice(&number.to_be_bytes());
        Ok(size_of::<u64>() as u64)
    }
}

impl VentilatorHost {
    pub(super) fn new(identity: Identity, scope: &Scope, claimed: Epoch) -> Self {
        let most = 1 << 10;
        let config = Config {
            seed: 1,
            uid: UID,
            name: "batch".into(),
            instance: InstanceId(identity.process_id.0),
            identity,
            epoch_floor: claimed,
            completions: scope.tasks,
            policy: Policy {
                backoff_limit_per_index: 1,
                max_bytes_per_task: most,
            },
            work: wire::Work {
                executor: Executor::Library,
                collector: String::new(),
                max_bytes_per_task: most,
                deadline_millis: None,
            },
            max_failed: None,
            deadline: None,
            success: None,
            workers_are_mended: false,
            cut: Cut::default(),
        };
        Self {
            machine: Ventilator::new(config),
            over: false,
        }
    }

    pub(super) fn take(&mut self, context: &mut Context<'_>, input: Input) {
        let now = context.now;
        match input {
            Input::Begin => {
                self.machine.handle_collector(now, COLLECTOR);
                for place in 1..=context.scope.workers {
                    let name = worker_name(place);
                    self.machine.handle_worker(now, &name, &name);
                }
            }
            Input::Opened(link) => self.machine.handle_link_opened(now, link),
            Input::Closed(_) if context.scope.plant == Some(Plant::DeafVentilator) => {}
            Input::Closed(link) => self.machine.handle_link_closed(now, link),
            Input::Message(link, frames) => self.machine.handle_message(now, link, &frames),
            Input::Timer => self.machine.handle_timeout(now),
            Input::Finish(work) => panic!("not for a ventilator: {work:?}"),
        }
        self.drain(context);
        self.machine.sanity_check();
    }

    fn drain(&mut self, context: &mut Context<'_>) {
        while let Some(output) = self.machine.poll_output(context.now, &mut Numbers) {
            match output {
                Output::Link(output) => {
                    if let Some((_, _, Message::Tasks(tasks))) = decoded(&output) {
                        for entry in &tasks.entries {
                            context.ledger.dispatches(entry.number, entry.attempt);
                        }
                    }
                    context.out.push(output);
                }
                Output::Event(event) => self.note(context, event),
            }
        }
    }

    fn note(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Claiming { epoch, .. } => {
                assert!(
                    epoch > context.ledger.claimed,
                    "epoch {epoch} is claimed after {}",
                    context.ledger.claimed
                );
                context.ledger.claimed = epoch;
                self.machine.handle_epoch_kept(context.now, epoch);
            }
            Event::Done(done) => {
                context.ledger.hears(&Message::Done(done), context.scope.tasks);
                context.ledger.done = true;
                self.over = true;
            }
            Event::Failed(_) | Event::Fenced { .. } | Event::WorkerRefused { .. } | Event::ResultsLost { .. } => {
                panic!("nothing explains {event:?}")
            }
            Event::WorkerLost { .. } | Event::Health(_) => {}
        }
    }
}
