//! Keys of states: 128 bits of what a state says, with times relative to the clock of their process.

use std::fmt::{Debug, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Times that lie less than this apart are one time: half of the shortest long timer, the look at the links.
const RESOLUTION_MILLIS: u128 = 250;

/// Two 64-bit hashes of the same bytes, so that even a billion states hardly share a key.
struct Twin([DefaultHasher; 2]);

impl Hasher for Twin {
    fn write(&mut self, bytes: &[u8]) {
        for half in &mut self.0 {
            half.write(bytes);
        }
    }

    fn finish(&self) -> u64 {
        self.0[0].finish()
    }
}

/// The key of a value.
pub(super) fn of(value: &impl Hash) -> u128 {
    let mut twin = Twin([DefaultHasher::new(), DefaultHasher::new()]);
    twin.0[1].write_u8(1);
    value.hash(&mut twin);
    u128::from(twin.0[0].finish()) << 64 | u128::from(twin.0[1].finish())
}

/// The key of a machine by all that its `Debug` shows. `buffer` is only memory to be used again.
pub(super) fn of_machine(machine: &impl Debug, now: Instant, buffer: &mut String) -> u128 {
    buffer.clear();
    write!(buffer, "{now:?} {machine:?}").expect("memory takes text");
    let mut moments = buffer.split("Instant { tv_sec: ");
    let mut text = String::with_capacity(buffer.len());
    text.push_str(moments.next().unwrap_or_default());
    let mut clock = None;
    for moment in moments {
        let (time, rest) = parse(moment).expect("an instant shows its seconds and nanoseconds");
        let clock = *clock.get_or_insert(time);
        write!(text, "{:?}", relative(time, clock)).expect("memory takes text");
        text.push_str(rest);
    }
    of(&text)
}

fn parse(moment: &str) -> Option<(Duration, &str)> {
    let (seconds, rest) = moment.split_once(", tv_nsec: ")?;
    let (nanos, rest) = rest.split_once(" }")?;
    Some((Duration::new(seconds.parse().ok()?, nanos.parse().ok()?), rest))
}

/// Steps of the resolution into the past or the future; what is to come is never now.
fn relative(time: Duration, clock: Duration) -> i128 {
    let steps = |time: u128| i128::try_from(time).unwrap_or(i128::MAX);
    match time.checked_sub(clock) {
        Some(ahead) => steps(ahead.as_millis().div_ceil(RESOLUTION_MILLIS)),
        None => -steps((clock - time).as_millis() / RESOLUTION_MILLIS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_distance_to_the_clock_counts() {
        let base = Instant::now();
        let key = |now, time| of_machine(&Some(time), now, &mut String::new());
        let second = Duration::from_secs(1);
        let ahead = key(base, base + second);
        assert_eq!(
            ahead,
            key(base + second * 7, base + second * 8),
            "both are a second away"
        );
        assert_ne!(ahead, key(base, base + second * 2));
        assert_ne!(
            key(base, base),
            key(base, base + Duration::from_millis(1)),
            "due, or soon due"
        );
        assert_ne!(key(base + second, base), key(base, base), "long ago, or now");
    }
}
