//! Times that processes measure by clocks of their own.

use std::time::Duration;

/// How fast the fastest clock runs, as parts of 100 that a waiting time shrinks to.
const FASTEST: u32 = 90;

/// A waiting time as the clock of a process may measure it.
pub(super) fn shortest(time: Duration) -> Duration {
    time * FASTEST / 100
}
