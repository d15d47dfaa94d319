//! A bound on lines of one kind, so that what repeats neither fills a disk nor hides the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::batch::{self, Batch};

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

/// Kinds that are told apart: some hundred batches at a dozen places each.
pub(crate) const KINDS: usize = 4_096;

/// A place in the code that logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    target: Cow<'static, str>,
    line: Option<u32>,
}

/// A kind of line: a place, and the batch of which it tells, so that one batch does not hide another.
type Kind = (Place, Option<Batch>);

struct Written {
    level: Level,
    since: Instant,
    lines: u32,
    left_out: u64,
}

/// What was left out of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    level: Level,
    kind: Kind,
    count: u64,
}

impl Written {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= INTERVAL
    }
}

/// Decides which lines are written. The clock is an argument.
#[derive(Default)]
pub(crate) struct Limit(BTreeMap<Kind, Written>);

impl Limit {
    /// Whether a line of this kind may be written now.
    fn admit(&mut self, now: Instant, mut kind: Kind, level: Level) -> bool {
        if self.0.len() >= KINDS && !self.0.contains_key(&kind) {
            self.0
                .retain(|_, written| written.left_out > 0 || !written.is_over(now));
            if self.0.len() >= KINDS {
                kind.1 = None; // of places there are only so many in a program
            }
        }
        let written = self.0.entry(kind).or_insert(Written {
            level,
            since: now,
            lines: 0,
            left_out: 0,
        });
        // What was left out is told of first, by whoever asks for it.
        if written.left_out == 0 && written.is_over(now) {
            (written.since, written.lines) = (now, 0);
        }
        let admitted = written.lines < LINES;
        if admitted {
            written.lines += 1;
        } else {
            written.left_out += 1;
        }
        admitted
    }

    /// What was left out in intervals that are over; with `all`, in the others too. Each is told once.
    fn left_out(&mut self, now: Instant, all: bool) -> Vec<LeftOut> {
        let over = |written: &Written| all || written.is_over(now);
        let due = self.0.iter_mut();
        due.filter(|(_, written)| written.left_out > 0 && over(written))
            .map(|(kind, written)| {
                (written.since, written.lines) = (now, 0);
                LeftOut {
                    level: written.level,
                    kind: kind.clone(),
                    count: std::mem::take(&mut written.left_out),
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
        for LeftOut { level, kind, count } in due {
            let (Place { target, line }, batch) = kind;
            let (kind, batch) = (target.as_ref(), batch.as_deref());
            // At the level of the kind; filters let it through.
            match level {
                Level::ERROR => tracing::error!(target: TARGET, kind, line, batch, "{count} more of this kind"),
                Level::WARN => tracing::warn!(target: TARGET, kind, line, batch, "{count} more of this kind"),
                _ => tracing::info!(target: TARGET, kind, line, batch, "{count} more of this kind"),
            }
        }
    }
}

/// Lines that come by the crate `log` say their place by fields.
fn place(event: &Event<'_>) -> Place {
    match event.normalized_metadata() {
        Some(metadata) => Place {
            target: metadata.target().to_owned().into(),
            line: metadata.line(),
        },
        None => Place {
            target: event.metadata().target().into(),
            line: event.metadata().line(),
        },
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Limited {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        batch::note(attributes, id, &context);
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() == TARGET {
            return true;
        }
        let kind = (place(event), batch::of(event, &context));
        let admitted = self.limit().admit(Instant::now(), kind, *metadata.level());
        if !admitted {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &'static str, batch: Option<&str>) -> Kind {
        let place = Place {
            target: target.into(),
            line: Some(1),
        };
        (place, batch.map(Into::into))
    }

    #[test]
    fn a_kind_is_bounded_and_others_are_not_hurt() {
        let (mut limit, now) = (Limit::default(), Instant::now());
        let noisy = of("a", Some("noisy"));
        let admitted = (0..1_000).filter(|_| limit.admit(now, noisy.clone(), Level::ERROR));
        assert_eq!(admitted.count(), LINES as usize);
        assert!(limit.admit(now, of("b", Some("noisy")), Level::WARN));
        assert!(limit.admit(now, of("a", Some("other")), Level::WARN), "another batch");
        assert!(limit.admit(now, of("a", None), Level::WARN));
        assert_eq!(limit.left_out(now, false), []);
        let later = now + INTERVAL;
        let left_out = LeftOut {
            level: Level::ERROR,
            kind: noisy.clone(),
            count: 1_000 - u64::from(LINES),
        };
        assert_eq!(limit.left_out(later, false), [left_out]);
        assert_eq!(limit.left_out(later, true), [], "told once");
        assert!(limit.admit(later, noisy, Level::ERROR));
    }

    #[test]
    fn what_is_left_out_is_never_lost() {
        let (mut limit, now) = (Limit::default(), Instant::now());
        let kind = of("a", None);
        for _ in 0..=LINES {
            limit.admit(now, kind.clone(), Level::WARN);
        }
        assert!(
            !limit.admit(now + INTERVAL, kind, Level::WARN),
            "not before it was told of"
        );
        let counts: Vec<_> = limit.left_out(now, true).iter().map(|kind| kind.count).collect();
        assert_eq!(counts, [2]);
    }

    #[test]
    fn a_slow_kind_is_never_limited() {
        let (mut limit, now) = (Limit::default(), Instant::now());
        let slowly = |turn| limit.admit(now + turn * (INTERVAL / LINES), of("a", None), Level::INFO);
        assert!((0..1_000).all(slowly));
    }

    #[test]
    fn batches_without_number_take_bounded_room_and_are_still_bounded() {
        let (mut limit, now) = (Limit::default(), Instant::now());
        let mut told = |now, batch: usize| limit.admit(now, of("a", Some(&batch.to_string())), Level::WARN);
        let admitted = (0..10 * KINDS).filter(|batch| told(now, *batch)).count();
        assert_eq!(admitted, KINDS + LINES as usize);
        assert!(told(now + INTERVAL, usize::MAX), "those of before have made room");
        assert!(limit.0.len() <= KINDS + 1);
    }
}
