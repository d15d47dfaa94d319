//! The judge: it sees what is said, what runs and what is durable, and knows what the oracle knows. It shares no code
//! with the machines but the codec. Each file is a small model of one idea; what breaks ends the run with a message that
//! begins with the rule or the invariant.
//!
//! | invariant | check | file |
//! |---|---|---|
//! | I1 complete, I2 unique, I8 one ending | all numbers settled, each once; one end, the same for all, no tasks after it | `ending`, `facts` |
//! | I3 correct, I5 no phantoms | payloads and recorded outputs are the oracle's; nothing out of range, nothing unknown | `executions`, `facts` |
//! | I4 durable | REPORT, STATE, DONE and ACK say only what is durable, and it stays | `durable` |
//! | I6 failed list exact | how each number ended, by its nature; each charge was told by who was not fenced | `blame`, `facts` |
//! | I7 counts true | totals told are durable; in flight at a ventilator is what it can know | `counts`, `dispatch` |
//! | I9 fenced | accepted epochs never fall at a worker, one dispatcher for an epoch | `fencing`, `executions` |
//! | I10 bounded waste | each second dispatch has its own cause, each run its own dispatch; duplicates are counted | `dispatch`, `belief`, `executions`, `duplicates` |
//! | I13 order-free | the same tasks under other workers, credit and seeds | `tests/order.rs` |
//! | L1, L2 | progress, and answers to END, when nothing is in the way | `liveness` |
//!
//! | rule | check | file |
//! |---|---|---|
//! | 1 | an alias keeps its batch; HELLO first. Versions: the tests of the protocol. Silence: `tests/timers.rs` | `scene`, `greeting` |
//! | 2 | TASKS carry the sender's epoch; stale ones never run; stale LOST charges nobody | `dispatch`, `executions`, `blame` |
//! | 3 | claims are kept before START and durable before STATE, START to a worker needs STATE, only the overtaken are fenced, and they are silent | `fencing`, `dispatch` |
//! | 4 | the settled set is what the last STATE said: what it does not list may leave again | `belief` |
//! | 5 | TASKS only after STATE; what a takeover sends before it has located all; one copy at a worker | `dispatch`, `executions` |
//! | 6 | RESULTS are acked in time, and an ACK disposes of what is durable. Discarding after 10 minutes: `tests/timers.rs` | `liveness`, `durable` |
//! | 7 | each (number, attempt) is charged once, settled never changes; retries told are durable | `facts`, `durable` |
//! | 8 | no outcome is lost or waits for ever. The sums of allowances: the collector's `sanity_check` | `liveness` |
//! | 9 | tasks and bytes within the credit of the newest WANT, nothing to a worker that is drained. Room held by nobody: the worker's `sanity_check` | `credit` |
//! | 10 | see I10; no number twice without the collector's STATE, nothing new to a worker that cannot reach it | `belief`, `dispatch` |
//! | 11 | who is called dead has ended or is away for 30 s, and had not said BYE | `blame` |
//! | 12 | alone means alone, on at most half of the workers, for all that one ventilator knows; only what was announced is charged | `executions`, `dispatch`, `blame` |
//! | 13 | no attempt before its delay, by the clock of the ventilator, and none below the one that was asked for | `belief` |
//! | 14 | another N is never recorded; N = 0 ends. Sources are not simulated | `facts`, `liveness` |
//! | 15 | DONE is durable; damage read back is missing again; batch CANCEL only after DONE | `durable`, `ending` |
//! | 16 | what is of a lower epoch or out of range is not recorded. Malformed bytes: fuzzing | `facts`, `executions` |

mod belief;
mod blame;
mod branches;
mod clocks;
mod counts;
mod coverage;
mod credit;
mod dispatch;
mod duplicates;
mod durable;
mod ending;
mod executions;
mod fencing;
mod greeting;
mod liveness;
mod scene;

use std::time::Duration;

use harmony_protocol::ids::BatchUid;

use self::blame::Blame;
use self::branches::Branches;
pub use self::coverage::{BRANCHES, Branch, Coverage};
use self::credit::Credit;
use self::dispatch::Dispatch;
use self::duplicates::Duplicates;
use self::durable::Durable;
use self::ending::Endings;
use self::executions::Executions;
use self::fencing::Fencing;
use self::greeting::Greetings;
use self::liveness::Liveness;
use self::scene::{Scene, Seen};
use crate::disk::Disk;
use crate::observation::{Observation, Verdict};
use crate::tasks::Tasks;

/// See the module.
#[derive(Debug)]
pub struct Checker {
    oracle: Vec<Tasks>,
    at: Duration,
    scene: Scene,
    coverage: Coverage,
    models: Models,
}

/// One model for each idea.
#[derive(Debug, Default)]
struct Models {
    greetings: Greetings,
    durable: Durable,
    endings: Endings,
    executions: Executions,
    dispatch: Dispatch,
    fencing: Fencing,
    credit: Credit,
    blame: Blame,
    duplicates: Duplicates,
    liveness: Liveness,
    branches: Branches,
}

impl Models {
    fn observe(&mut self, seen: &Seen<'_>) {
        self.greetings.observe(seen);
        self.durable.observe(seen);
        self.endings.observe(seen);
        self.executions.observe(seen);
        self.dispatch.observe(seen);
        self.fencing.observe(seen);
        self.credit.observe(seen);
        self.blame.observe(seen);
        counts::observe(seen);
        self.duplicates.observe(seen);
        self.liveness.observe(seen);
        self.branches.observe(seen);
    }
}

impl Checker {
    /// A judge who knows what the tasks of these batches do.
    pub fn new(oracle: Vec<Tasks>) -> Self {
        Self {
            oracle,
            at: Duration::ZERO,
            scene: Scene::default(),
            coverage: Coverage::default(),
            models: Models::default(),
        }
    }

    /// Something happened. Panics if it breaks a rule.
    pub fn observe(&mut self, at: Duration, what: &Observation<'_>, disk: &Disk) {
        self.scene.observe(what);
        assert!(at >= self.at, "time runs backwards, from {:?} to {at:?}", self.at);
        self.at = at;
        let seen = Seen {
            at,
            what,
            scene: &self.scene,
            oracle: &self.oracle,
            disk,
            coverage: &self.coverage,
        };
        self.models.observe(&seen);
        self.scene.forget(what);
    }

    /// How each ventilator ended, with its batch.
    pub fn verdicts(&self) -> &[(BatchUid, Verdict)] {
        &self.models.endings.verdicts
    }

    /// What was seen.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The end of a run: what is durable is judged against the oracle.
    pub fn close(&self, tasks: &Tasks, disk: &Disk) {
        let facts = disk.facts(tasks.uid);
        self.models.endings.close(tasks, facts);
        self.models.durable.close(tasks.uid, facts);
        self.models.blame.close(tasks, facts);
    }
}
