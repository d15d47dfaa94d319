//! What is remembered of a batch between two reconciliations. All of it may be lost: the next leader begins without it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harmony_api::status::HarmonyBatchStatus;
use harmony_ventilator::rate::Rate;

use super::trouble::Trouble;
use super::validate::Batch;
use crate::fleet;

/// The first pause after something went wrong; it doubles up to [`PAUSE_MOST`].
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause after something went wrong: what is mended goes on soon, and nobody is asked in a storm.
const PAUSE_MOST: Duration = Duration::from_secs(15);

/// What is remembered of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// What its worker pods did.
    pub(crate) fleet: fleet::Memory,
    /// The validated batch, and whether all that it refers to was there.
    pub(crate) batch: Option<Arc<Batch>>,
    /// What its template refers to and was not there.
    pub(crate) missing: Option<Trouble>,
    /// When that was looked at last.
    pub(crate) looked: Option<Instant>,
    /// The batch's objects were made.
    pub(crate) made: bool,
    /// The status as it was written last, and when.
    pub(crate) status: Option<HarmonyBatchStatus>,
    pub(crate) patched: Option<Instant>,
    /// How fast it goes.
    pub(crate) rate: Option<Rate>,
    /// A ventilator of this operator has claimed the batch.
    pub(crate) claimed: bool,
    /// Resends that earlier ventilators counted.
    pub(crate) resent_before: u64,
    /// When its ventilator was started.
    pub(crate) started: Option<Instant>,
    /// When it gets a successor, since it ended before the batch was over.
    pub(crate) restart_at: Option<Instant>,
    /// Why it ended; until a successor runs.
    pub(crate) ventilator_trouble: Option<Trouble>,
    pub(crate) ventilator_pause: Pause,
    /// What workers said when they refused the batch; until one of them is ready.
    pub(crate) refused: Option<Trouble>,
    /// How worker pods ended without having done anything; until one of them is ready.
    pub(crate) ended: Option<Trouble>,
    /// Since when it is known that the batch fails by its pods.
    pub(crate) failing: Option<Instant>,
    /// How often the collector's process was started, as last seen.
    pub(crate) collector_restarts: Option<(String, i32)>,
    pub(crate) pause: Pause,
    /// Passes in a row that were broken off.
    pub(crate) broken_off: u32,
}

impl Memory {
    /// The ventilator was stopped, since there is nothing to do for one. The next one starts at once.
    pub(crate) fn ventilator_stopped(&mut self) {
        self.rate = None;
        self.restart_at = None;
        self.ventilator_trouble = None;
        self.ventilator_pause.reset();
        self.refused = None;
    }

    /// The worker pods are made from something else now: what was wrong with the others says nothing of them.
    pub(crate) fn template_changed(&mut self) {
        self.refused = None;
        self.ended = None;
    }
}

/// How long to wait after something went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause(Option<Duration>);

impl Pause {
    /// It went wrong again.
    pub(crate) fn lengthen(&mut self) -> Duration {
        let next = self.0.map_or(PAUSE_FIRST, |last| (last * 2).min(PAUSE_MOST));
        self.0 = Some(next);
        next
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ventilator_that_waits_to_be_started_again_is_forgotten_when_it_is_stopped() {
        let mut memory = Memory {
            restart_at: Some(Instant::now()),
            ventilator_trouble: Some(Trouble::new("TasksSourceChanged", "others")),
            ..Memory::default()
        };
        memory.ventilator_stopped();
        assert_eq!((memory.restart_at, memory.ventilator_trouble), (None, None));
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew() {
        let mut pause = Pause::default();
        let told: Vec<_> = (0..7).map(|_| pause.lengthen().as_millis()).collect();
        assert_eq!(told, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        pause.reset();
        assert_eq!(pause.lengthen(), PAUSE_FIRST);
    }
}
