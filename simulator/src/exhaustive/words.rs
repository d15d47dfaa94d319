//! Steps in words, for those who read a path.

use super::connection::Packet;
use super::state::State;
use super::step::{Act, Fault, Step, Work};

impl State {
    /// What a step is about to do in this state.
    pub(super) fn describe(&self, step: &Step) -> String {
        match step {
            Step::Do(act) => self.describe_act(act),
            Step::Fail(Fault::Crash { place, hard: true }) => {
                format!(
                    "{} dies: what it sent and nobody has read, and what it did not sync, is lost",
                    self.name(*place)
                )
            }
            Step::Fail(Fault::Crash { place, hard: false }) => format!("{} dies", self.name(*place)),
            Step::Fail(Fault::Cut(id)) => {
                format!(
                    "the link between {} and {} is cut",
                    self.name(id.place(0)),
                    self.name(id.place(1))
                )
            }
            Step::Hold(act) => format!("from now on waits: {}", self.describe_act(act)),
            Step::Release => "what waited may happen".to_owned(),
        }
    }

    fn describe_act(&self, act: &Act) -> String {
        match act {
            Act::Connect(id) => format!("{} dials {}", self.name(id.place(0)), self.name(id.place(1))),
            Act::Deliver(id, side) => {
                let (to, from) = (self.name(id.place(*side)), self.name(id.place(1 - side)));
                match self.head(id, *side).map(Packet::message) {
                    Some(Some(message)) => format!("{to} takes from {from} {message:?}"),
                    _ => format!("{to} loses its link to {from}"),
                }
            }
            Act::Finish(place, work) => {
                let what = match work {
                    Work::Open => "its log is open".to_owned(),
                    Work::Sync => "its fsync ends".to_owned(),
                    Work::ReadBack => "it has read all records back".to_owned(),
                    Work::Task(number) => format!("its task {number} ends"),
                };
                format!("{}: {what}", self.name(*place))
            }
            Act::Hurry(place) => format!("{}: its timer fires", self.name(*place)),
            Act::Restart(place) => format!("{} starts again", self.name(*place)),
            Act::Wait => "time passes until something can happen".to_owned(),
        }
    }
}
