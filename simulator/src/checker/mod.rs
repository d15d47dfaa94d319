//! The judge: it sees what is said, what runs and what is durable, and knows what the oracle knows. It shares no code
//! with the machines but the codec.

mod blame;
mod durable;
mod ending;
mod executions;
mod scene;
mod waste;

use std::time::Duration;

use harmony_protocol::ids::BatchUid;

use self::blame::Blame;
use self::durable::Durable;
use self::ending::Endings;
use self::executions::Executions;
use self::scene::{Scene, Seen};
use self::waste::Waste;
use crate::disk::Disk;
use crate::observation::{Observation, Verdict};
use crate::tasks::Tasks;

/// See the module.
#[derive(Debug)]
pub struct Checker {
    oracle: Vec<Tasks>,
    scene: Scene,
    durable: Durable,
    endings: Endings,
    executions: Executions,
    blame: Blame,
    waste: Waste,
}

impl Checker {
    /// A judge who knows what the tasks of these batches do.
    pub fn new(oracle: Vec<Tasks>) -> Self {
        Self {
            oracle,
            scene: Scene::default(),
            durable: Durable::default(),
            endings: Endings::default(),
            executions: Executions::default(),
            blame: Blame::default(),
            waste: Waste::default(),
        }
    }

    /// Something happened. Panics if it breaks a rule.
    pub fn observe(&mut self, _at: Duration, what: &Observation<'_>, disk: &Disk) {
        self.scene.observe(what);
        let seen = Seen {
            what,
            scene: &self.scene,
            oracle: &self.oracle,
            disk,
        };
        self.durable.observe(&seen);
        self.endings.observe(&seen);
        self.executions.observe(&seen);
        self.blame.observe(&seen);
        self.waste.observe(&seen);
        self.scene.forget(what);
    }

    /// A fault happened while that many numbers were in flight: each of them may run once more.
    pub fn explain(&mut self, uid: BatchUid, in_flight: u64) {
        self.waste.explain(uid, in_flight);
    }

    /// How each ventilator ended, with its batch.
    pub fn verdicts(&self) -> &[(BatchUid, Verdict)] {
        &self.endings.verdicts
    }

    /// The end of a run: what is durable is judged against the oracle.
    pub fn close(&self, tasks: &Tasks, disk: &Disk, calm: bool) {
        let facts = disk.facts(tasks.uid);
        self.endings.close(tasks, facts);
        self.durable.close(tasks.uid, facts);
        self.blame.close(tasks, facts);
        self.waste.close(tasks, facts, calm);
    }
}
