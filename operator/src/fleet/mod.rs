//! Which worker pods a batch is to have: pure decisions over what the API server shows, with the clock as an argument.
//!
//! [`observe()`] reads a pod, [`plan()`] says what to do next. What is done is the caller's: first it tells the ventilator
//! who `exited`, then it drains, deletes and creates. Every answer may be carried out twice without harm.

mod failures;
mod memory;
mod observe;
mod plan;

use std::time::Duration;

use harmony_protocol::ventilator::WorkerView;
use jiff::SignedDuration;

pub use failures::{Judged, judge, may_go, verdict};
pub use harmony_api::pod::{STUCK_AFTER, Waiting};
pub use memory::Memory;
pub use observe::observe;
pub use plan::plan;

/// A pod whose node took this long beyond the grace to confirm its end is replaced: the node is taken for lost.
pub const LOST_AFTER: Duration = Duration::from_secs(30);
/// The first pause before a pod is replaced that ended twice without progress; it doubles with each further end.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause: as long as the kubelet's.
pub const BACKOFF_MOST: Duration = Duration::from_mins(5);
/// Pods created by one plan, so that one large batch does not hold up the others.
pub const CREATIONS: usize = 32;
/// The pause before the next plan, if one had more to create.
pub const CREATIONS_PAUSE: Duration = Duration::from_millis(500);

/// One worker pod, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPod {
    /// The pod's name, which is also the worker's.
    pub name: String,
    /// Its place in the fleet.
    pub ordinal: u32,
    /// How many pods had its ordinal before.
    pub generation: u64,
    /// For deletion: nothing else of this name is meant.
    pub uid: String,
    /// The revision of template and executor that it was made from; empty if it has none.
    pub revision: String,
    /// `status.phase`.
    pub phase: Phase,
    /// Where it is reached, once it has an address.
    pub ip: Option<String>,
    /// It says that it is ready.
    pub ready: bool,
    /// Where it runs.
    pub node: Option<String>,
    /// It is being deleted, since so long after its grace ended (negative: so long before).
    pub terminating: Option<SignedDuration>,
    /// Its worker has ended, and how.
    pub ended: Option<End>,
    /// What it waits for, if a person should know.
    pub waiting: Option<Waiting>,
}

impl WorkerPod {
    /// It has ended, or its node does not confirm that for so long that it is taken for lost.
    pub fn is_gone(&self) -> bool {
        let lost_after = SignedDuration::try_from(LOST_AFTER).unwrap_or(SignedDuration::MAX);
        self.ended.is_some() || self.terminating.is_some_and(|overdue| overdue >= lost_after)
    }
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its worker has not started.
    Pending,
    /// Containers run.
    Running,
    /// All ended well.
    Succeeded,
    /// One did not.
    Failed,
    /// Its node does not answer.
    Unknown,
}

/// How a worker pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code of the worker, if it ran.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why, for programs.
    pub reason: EndReason,
    /// Whether the tasks that it ran may be the cause.
    pub counts: bool,
    /// Why, for people; empty if nobody said.
    pub message: String,
    /// Its containers that have ended; the one that this end tells of comes first.
    pub exits: Vec<Exit>,
    /// The pod's conditions: type and status.
    pub conditions: Vec<(String, String)>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its name.
    pub container: String,
    /// Its exit code.
    pub code: i32,
}

/// Why a worker pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndReason {
    /// Exit code 0.
    Completed,
    /// Another exit code, or a signal.
    Error,
    /// It used more memory than it may.
    OomKilled,
    /// Its program could not be started.
    StartError,
    /// An init container failed.
    InitError,
    /// The kubelet needed what it used.
    Evicted,
    /// Preempted, drained, or its node was to go.
    DisruptionTarget,
    /// Its node does not answer, or forgot it.
    NodeLost,
    /// The kubelet did not take it, so that nothing of it ran.
    Rejected,
    /// Somebody deleted it.
    Deleted,
}

impl EndReason {
    /// Those that are failures.
    pub const FAILURES: [Self; 8] = [
        Self::Error,
        Self::OomKilled,
        Self::StartError,
        Self::InitError,
        Self::Evicted,
        Self::DisruptionTarget,
        Self::NodeLost,
        Self::Rejected,
    ];

    /// The cause is none of what ran in the pod.
    pub fn is_from_outside(self) -> bool {
        match self {
            Self::Evicted | Self::DisruptionTarget | Self::NodeLost | Self::Rejected | Self::Deleted => true,
            Self::Completed | Self::Error | Self::OomKilled | Self::StartError | Self::InitError => false,
        }
    }

    /// The name, as events and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::InitError => "InitError",
            Self::Evicted => "Evicted",
            Self::DisruptionTarget => "DisruptionTarget",
            Self::NodeLost => "NodeLost",
            Self::Rejected => "Rejected",
            Self::Deleted => "Deleted",
        }
    }
}

/// What a batch is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Workers: ordinals from 0 up to this, or none at all, at once (suspended, or finished).
    pub workers: Workers,
    /// The revision of template and executor of now.
    pub revision: String,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// So many. What is above is drained first.
    Run(u32),
    /// None: pods are deleted at once, and what they run gets their grace.
    Stop,
}

/// What the ventilator says of each worker, by name. Workers that it does not list may hold anything.
pub type Loads = std::collections::BTreeMap<String, Load>;

/// What the ventilator says of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// It is known to hold nothing.
    pub idle: bool,
    /// Nothing new goes there.
    pub draining: bool,
    /// It has greeted at least once.
    pub greeted: bool,
    /// Numbers that were settled there.
    pub settled: u64,
}

impl From<&WorkerView> for Load {
    fn from(view: &WorkerView) -> Self {
        Self {
            idle: view.is_idle(),
            draining: view.draining,
            greeted: view.greeted,
            settled: view.settled,
        }
    }
}

/// Collects what a ventilator says of its workers.
pub fn loads(views: &[WorkerView]) -> Loads {
    views.iter().map(|view| (view.name.clone(), Load::from(view))).collect()
}

/// What to do next, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Workers to be told to the ventilator as ended, each once, before anything below, and whether their tasks may be the
    /// cause.
    pub exited: Vec<(String, bool)>,
    /// Workers that are to get nothing new.
    pub drain: Vec<String>,
    /// Workers that are needed after all.
    pub undrain: Vec<String>,
    /// Pods to delete: name, uid, why.
    pub delete: Vec<(String, String, Deletion)>,
    /// Pods to create: ordinal, generation. One that is there already is a success.
    pub create: Vec<(u32, u64)>,
    /// When to plan again, even if nothing is seen to change.
    pub next: Option<Duration>,
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It has ended, and its cause is told.
    Ended,
    /// The batch is to have fewer workers.
    ScaledIn,
    /// Template or executor changed.
    Outdated,
    /// The batch is suspended or finished.
    Stopped,
}
