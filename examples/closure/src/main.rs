//! A worker of one's own: the prime factors of each number, as `factor` prints them.

use std::iter;
use std::process::ExitCode;

fn main() -> ExitCode {
    harmony_worker::run(|task| {
        let text = String::from_utf8_lossy(task.payload);
        let number = text
            .parse()
            .map_err(|error| format!("{text:?} is no number: {error}"))?;
        let factors = factors(number).map(|factor| factor.to_string());
        let words: Vec<_> = iter::once(format!("{number}:")).chain(factors).collect();
        Ok(words.join(" ").into_bytes())
    })
}

fn factors(mut left: u64) -> impl Iterator<Item = u64> {
    iter::from_fn(move || {
        let root = left.isqrt();
        let factor = (left > 1).then(|| (2..=root).find(|divisor| left.is_multiple_of(*divisor)).unwrap_or(left))?;
        left /= factor;
        Some(factor)
    })
}
