//! What a seed decides: who takes part, how the network and the disk are, and what goes wrong until when.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::dice::{Concern, Dice, broadly};
use crate::faults::{FAULTS, Fault};
use harmony_protocol::limits::{DEAD_AFTER, DEATHS_BEFORE_ALONE, GONE_AFTER, QUEUE_BYTES, REDIAL_MOST};

use crate::tasks::{Mix, Nature, Tasks};
use crate::world::RESTART_HEALED;
use crate::{collector, worker};

/// A ventilator that will come.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// For which batch, by its place.
    pub batch: usize,
    /// When.
    pub at: Duration,
    /// What keeps the first ventilator of the batch from going on then, and for how long.
    pub absence: Option<(Fault, Duration)>,
}

/// Everything that a seed decides before the run begins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The batches.
    pub batches: Vec<Tasks>,
    /// The ventilators.
    pub visits: Vec<Visit>,
    /// The workers.
    pub workers: Vec<worker::Setup>,
    /// The collector.
    pub collector: collector::Setup,
    /// How far the clock of a process may run from true, out of 1,000,000.
    pub skew: u32,
    /// How likely a process dies before each of its actions.
    pub crash: f64,
    /// The usual delay of a message.
    pub latency: Duration,
    /// How many times as long messages take on the slowest way between two processes, so that they overtake each other.
    pub spread: f64,
    /// Out of 1,000: how often a message takes much longer.
    pub slow: u32,
    /// What goes wrong, and the mean time between two of a kind.
    pub faults: Vec<(Fault, Duration)>,
    /// Strikes that are left out, by their kind and ordinal.
    pub skipped: BTreeSet<(Fault, u64)>,
    /// Nothing goes wrong any more from then on, and all that can heal is healed.
    pub until: Duration,
    /// The longest time until a dead process is started again.
    pub restart: Duration,
    /// Ventilators are told when the process of a worker ends.
    pub exits_seen: bool,
    /// Ventilators remember their epoch when they die.
    pub epoch_kept: bool,
    /// Machines check themselves after each step. Off, only the judge can find that a rule is broken.
    pub sanity_checks: bool,
    /// When the first ventilator is told to end its batch early.
    pub cancel: Option<Duration>,
}

const MICRO: Duration = Duration::from_micros(1);
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The most workers that take part.
const WORKERS_MOST: usize = 50;
/// The most that a clock runs from true: 5 %.
const SKEW_MOST: u32 = 50_000;
/// Bytes of payloads for which some workers have room: so few that long payloads have to wait for more.
const FEW_BYTES: u64 = 4 << 10;

/// The highest likelihood that a process dies before one of its actions.
const CRASH_MOST: f64 = 1e-3;

/// The longest usual delay of a message: there and back takes far less than the time after which a link counts as dead.
pub(crate) const LATENCY_MOST: Duration = Duration::from_millis(400);

/// Messages one after the other from the start of a worker to its first task: two HELLOs, START, STATE, WANT, CREDIT,
/// TASKS, and what is lost and said again meanwhile.
const TRIPS_AFTER_RESTART: u32 = 12;

/// Messages one after the other for a number that runs alone: TASKS, the announcement, PONG, RESULTS, REPORT, CREDIT.
const TRIPS_ALONE: u32 = 8;

impl Settings {
    /// One batch on one worker, a fast network, and nothing that goes wrong.
    pub fn calm(completions: u64) -> Self {
        Self {
            batches: vec![Tasks::new(0, completions, 7)],
            visits: vec![Visit {
                batch: 0,
                at: Duration::ZERO,
                absence: None,
            }],
            workers: vec![worker::Setup {
                slots: 2,
                window: 1,
                queue_bytes: QUEUE_BYTES,
                broken: false,
            }],
            collector: collector::Setup {
                fsync: MILLI,
                memory: 64 << 20,
                segment_bytes: 64 << 20,
                checkpoint_bytes: 64 << 20,
            },
            skew: 0,
            crash: 0.0,
            latency: 100 * MICRO,
            spread: 1.0,
            slow: 0,
            faults: Vec::new(),
            skipped: BTreeSet::new(),
            until: Duration::ZERO,
            restart: SECOND,
            exits_seen: true,
            epoch_kept: true,
            sanity_checks: true,
            cancel: None,
        }
    }

    /// What this seed decides.
    pub fn of(seed: u64) -> Self {
        Self::draw(&mut Dice::new(seed).fresh(Concern::Settings))
    }

    fn draw(random: &mut Rng) -> Self {
        let mut settings = Self::calm(0);
        let most = [3, 20, 100, 300][random.usize(0..4)];
        settings.batches = vec![draw_tasks(random, 0, most)];
        if random.u32(0..6) == 0 {
            settings.batches.push(draw_tasks(random, 1, most));
            settings.visits.push(Visit {
                batch: 1,
                at: broadly(random, MILLI, 5 * SECOND),
                absence: None,
            });
        }
        if random.u32(0..6) == 0 {
            let absence = [None, Some(Fault::Pause), Some(Fault::Isolate)][random.usize(0..3)];
            settings.visits.push(Visit {
                batch: 0,
                at: broadly(random, MILLI, 5 * SECOND),
                absence: absence.map(|fault| (fault, broadly(random, SECOND / 10, 60 * SECOND))),
            });
        }
        let most = [8, 8, 8, 8, 8, 8, 8, 8, 8, WORKERS_MOST][random.usize(0..10)];
        settings.workers = (0..random.usize(1..=most))
            .map(|_| worker::Setup {
                slots: random.u32(1..=4),
                window: [1, 1, 4][random.usize(0..3)],
                queue_bytes: [FEW_BYTES, QUEUE_BYTES][random.usize(0..2)],
                broken: false,
            })
            .collect();
        settings.collector = collector::Setup {
            fsync: broadly(random, MILLI, 100 * MILLI),
            memory: [4 << 20, 64 << 20][random.usize(0..2)],
            segment_bytes: [4 << 10, 64 << 10, 64 << 20][random.usize(0..3)],
            checkpoint_bytes: [1, 8 << 10, 64 << 20][random.usize(0..3)],
        };
        settings.latency = broadly(random, 20 * MICRO, 50 * MILLI);
        settings.spread = [1.0, 1.0, 30.0][random.usize(0..3)];
        settings.slow = [0, 1, 30][random.usize(0..3)];
        settings.until = broadly(random, SECOND, 60 * SECOND);
        settings.restart = broadly(random, 20 * MILLI, 40 * SECOND);
        settings.exits_seen = random.bool();
        settings.epoch_kept = random.bool();
        if random.u32(0..10) > 0 {
            if random.u32(0..4) > 0 {
                settings.crash = CRASH_MOST * random.f64();
            }
            let span = settings.span();
            for fault in FAULTS.into_iter().filter(|fault| *fault != Fault::Crash) {
                let rare = fault == Fault::LoseDisk;
                if random.u32(0..if rare { 8 } else { 4 }) == 0 {
                    settings.faults.push((fault, broadly(random, span / 20, span * 2)));
                }
            }
        }
        settings.skew = [0, 1_000, SKEW_MOST][random.usize(0..3)];
        if random.u32(0..25) == 0 {
            settings.cancel = Some(broadly(random, MILLI, 10 * SECOND));
        }
        settings
    }

    /// What takes part and what goes wrong, in some lines.
    pub fn summary(&self) -> String {
        let mut lines = Vec::new();
        for tasks in &self.batches {
            let mix = tasks.mix;
            lines.push(format!(
                "{}: {} tasks of about {:?}, {mix:?}",
                tasks.name, tasks.completions, tasks.duration
            ));
        }
        for visit in &self.visits {
            let name = &self.batches[visit.batch].name;
            lines.push(format!("a ventilator for {name} from {:?} on", visit.at));
        }
        lines.push(format!("workers: {:?}", self.workers));
        lines.push(format!("{:?}", self.collector));
        lines.push(format!(
            "messages take about {:?}, {} of 1,000 much longer",
            self.latency, self.slow
        ));
        for (fault, mean) in &self.faults {
            lines.push(format!("{fault:?} every {mean:?} until {:?}", self.until));
        }
        if !self.skipped.is_empty() {
            lines.push(format!("but not {:?}", self.skipped));
        }
        lines.iter().fold(String::new(), |text, line| text + "  " + line + "\n")
    }

    /// About how long the batches take when nothing goes wrong, so that most faults strike while there is work.
    fn span(&self) -> Duration {
        let slots: u32 = self.workers.iter().map(|worker| worker.slots).sum();
        let work: Duration = self.batches.iter().map(Tasks::work).sum();
        let talk = 20 * (self.latency + self.collector.fsync);
        (work / slots.max(1) + talk).clamp(100 * MILLI, 10 * SECOND)
    }

    /// The mean time of a message on the longest way.
    fn longest_trip(&self) -> Duration {
        let usual = self.latency.mul_f64(self.spread).min(LATENCY_MOST.max(self.latency));
        usual.mul_f64(1.0 + 30.0 * f64::from(self.slow) / 1000.0)
    }

    /// How long the batches may take when nothing goes wrong any more: time to find out what is broken, to let go of
    /// what is lost, and to do all that is left.
    ///
    /// Twice, since one round may begin just before the end of the one before it: a link that died without a word is
    /// found after [`DEAD_AFTER`] and dialled again after [`REDIAL_MOST`]; what a process held that does not come back
    /// is given up after [`GONE_AFTER`], the longest of all such times.
    ///
    /// The work is that of one slot, twice: the fleet may be one worker, and whatever is in flight may run again. Each
    /// death by a poisonous number costs a restart and the time until the new process is found and has credit; and what
    /// was near such deaths runs alone, each number with messages there and back before the next one may leave.
    pub fn patience(&self) -> Duration {
        let trip = self.longest_trip();
        let batches = self.batches.iter().map(|tasks| {
            let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            let poison = (0..tasks.completions).filter(|number| tasks.nature(*number) == Nature::Poison);
            let deaths = number(poison.count() as u64) * (tasks.backoff_limit + 1 + DEATHS_BEFORE_ALONE);
            let lone = if deaths > 0 { number(tasks.completions) } else { 0 };
            let restarts = deaths * (RESTART_HEALED + REDIAL_MOST + TRIPS_AFTER_RESTART * trip);
            2 * tasks.work() + restarts + lone * TRIPS_ALONE * trip
        });
        2 * (DEAD_AFTER + REDIAL_MOST + GONE_AFTER) + batches.sum::<Duration>()
    }
}

fn draw_tasks(random: &mut Rng, index: u64, most: u64) -> Tasks {
    let mut tasks = Tasks::new(index, random.u64(0..=most), random.u64(..));
    tasks.backoff_limit = random.u32(0..=3);
    tasks.duration = broadly(random, 10 * MICRO, 300 * MILLI);
    tasks.length = [16, 200, 20_000][random.usize(0..3)];
    tasks.largest = [1 << 20, 1 << 12, 1 << 16][random.usize(0..3)];
    let mut rarely = |one_in: u32, most: u32| {
        if random.u32(0..one_in) == 0 {
            random.u32(0..=most)
        } else {
            0
        }
    };
    tasks.mix = Mix {
        flaky: rarely(2, 200),
        bad: rarely(3, 100),
        poison: rarely(4, 50),
        moody: rarely(4, 200),
        slow: rarely(6, 30),
        varying: rarely(4, 300),
        huge: rarely(8, 10),
        oversized: rarely(8, 50),
        too_large: rarely(12, 1),
    };
    if rarely(20, 1) > 0 {
        tasks.max_failed = Some(2);
    }
    tasks.parts = random.bool();
    tasks
}
