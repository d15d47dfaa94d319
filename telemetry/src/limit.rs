//! A bound on lines of one kind, so that what repeats neither fills a disk nor hides the rest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind that are written per [`INTERVAL`]: enough to see a pattern, and little against a disk.
pub(crate) const LINES: u32 = 20;
/// After this time a kind may be written again, and is told of what was left out.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// Where summaries come from: they are not limited themselves.
pub(crate) const TARGET: &str = "harmony_telemetry::limit";

/// Lines that were left out since the process began.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// How many lines were left out because too many of their kind came, since the process began.
pub fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// A place in the code that logs: a kind of line. There are only so many in a program.
type Place = (&'static str, &'static str, Option<u32>);

struct Kind {
    level: Level,
    since: Instant,
    written: u32,
    left_out: u64,
}

/// What was left out of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    level: Level,
    target: &'static str,
    line: Option<u32>,
    count: u64,
}

/// Decides which lines are written. The clock is an argument.
#[derive(Default)]
pub(crate) struct Limit(BTreeMap<Place, Kind>);

impl Limit {
    /// Whether a line of this kind may be written now.
    fn admit(&mut self, now: Instant, place: Place, level: Level) -> bool {
        let kind = self.0.entry(place).or_insert(Kind {
            level,
            since: now,
            written: 0,
            left_out: 0,
        });
        // What was left out is told of first, by whoever asks for it.
        if kind.left_out == 0 && now.saturating_duration_since(kind.since) >= INTERVAL {
            (kind.since, kind.written) = (now, 0);
        }
        let admitted = kind.written < LINES;
        if admitted {
            kind.written += 1;
        } else {
            kind.left_out += 1;
        }
        admitted
    }

    /// What was left out in intervals that are over; with `all`, in the others too. Each is told once.
    fn left_out(&mut self, now: Instant, all: bool) -> Vec<LeftOut> {
        let over = |kind: &Kind| all || now.saturating_duration_since(kind.since) >= INTERVAL;
        let due = self.0.iter_mut().filter(|(_, kind)| kind.left_out > 0 && over(kind));
        due.map(|(&(target, _, line), kind)| {
            (kind.since, kind.written) = (now, 0);
            LeftOut {
                level: kind.level,
                target,
                line,
                count: std::mem::take(&mut kind.left_out),
            }
        })
        .collect()
    }
}

/// The layer that keeps lines back.
#[derive(Clone, Default)]
pub(crate) struct Limited(Arc<Mutex<Limit>>);

impl Limited {
    fn limit(&self) -> MutexGuard<'_, Limit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one line per kind of which lines were left out.
    pub(crate) fn tell(&self, all: bool) {
        let due = self.limit().left_out(Instant::now(), all);
        for LeftOut {
            level,
            target: kind,
            line,
            count,
        } in due
        {
            // At the level of the kind; filters let it through.
            match level {
                Level::ERROR => tracing::error!(target: TARGET, kind, line, "{count} more of this kind"),
                Level::WARN => tracing::warn!(target: TARGET, kind, line, "{count} more of this kind"),
                _ => tracing::info!(target: TARGET, kind, line, "{count} more of this kind"),
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() == TARGET {
            return true;
        }
        let place = (metadata.target(), metadata.name(), metadata.line());
        let admitted = self.limit().admit(Instant::now(), place, *metadata.level());
        if !admitted {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = ("a", "event", Some(1));
    const B: Place = ("b", "event", Some(2));

    #[test]
    fn a_kind_is_bounded_and_others_are_not_hurt() {
        let (mut limit, now) = (Limit::default(), Instant::now());
        let admitted = (0..1_000).filter(|_| limit.admit(now, A, Level::ERROR)).count();
        assert_eq!(admitted, LINES as usize);
        assert!(limit.admit(now, B, Level::WARN));
        assert_eq!(limit.left_out(now, false), []);
        let later = now + INTERVAL;
        let left_out = LeftOut {
            level: Level::ERROR,
            target: "a",
            line: Some(1),
            count: 1_000 - u64::from(LINES),
        };
        assert_eq!(limit.left_out(later, false), [left_out]);
        assert_eq!(limit.left_out(later, true), [], "told once");
        assert!(limit.admit(later, A, Level::ERROR));
    }

    #[test]
    fn what_is_left_out_is_never_lost() {
        let (mut limit, now) = (Limit::default(), Instant::now());
        for _ in 0..=LINES {
            limit.admit(now, A, Level::WARN);
        }
        assert!(
            !limit.admit(now + INTERVAL, A, Level::WARN),
            "not before it was told of"
        );
        let counts: Vec<_> = limit.left_out(now, true).iter().map(|kind| kind.count).collect();
        assert_eq!(counts, [2]);
    }

    #[test]
    fn a_slow_kind_is_never_limited() {
        let (mut limit, now) = (Limit::default(), Instant::now());
        assert!((0..1_000).all(|turn| limit.admit(now + turn * (INTERVAL / LINES), A, Level::INFO)));
    }
}
