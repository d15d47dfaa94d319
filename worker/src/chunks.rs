//! Spans of chunks: tasks that an executor got at once, from then until the last of them has ended.

use std::collections::BTreeSet;

use harmony_protocol::ids::{BatchUid, Epoch};
use harmony_protocol::worker::Task;
use harmony_telemetry::spans::Span;

/// Chunks that are watched at once: enough for what a window holds, and little to look through.
const WATCHED: usize = 64;

/// The chunks that are under way and have a span. There are none while nothing is traced.
#[derive(Default)]
pub(crate) struct Chunks(Vec<Chunk>);

struct Chunk {
    uid: BatchUid,
    left: BTreeSet<u64>,
    span: Span,
}

impl Chunks {
    /// Tasks begin. Their epoch is asked for only if they get a span.
    pub(crate) fn begin(&mut self, uid: BatchUid, epoch: impl FnOnce() -> Epoch, worker: &str, tasks: &[Task]) {
        let Some(first) = tasks
            .first()
            .filter(|_| harmony_telemetry::spans::are_made() && self.0.len() < WATCHED)
        else {
            return;
        };
        let epoch = epoch();
        // A number may come again, in another attempt.
        let key = first.number ^ (u64::from(first.attempt) << 48);
        if let Some(span) = Span::below_batch("chunk", uid.0, epoch, key) {
            let count = i64::try_from(tasks.len()).unwrap_or(i64::MAX);
            let span = span.with("worker", worker.to_owned()).with("tasks", count);
            self.0.push(Chunk {
                uid,
                left: tasks.iter().map(|task| task.number).collect(),
                span: span.with("first", i64::try_from(first.number).unwrap_or(i64::MAX)),
            });
        }
    }

    /// Tasks have ended, in whatever way.
    pub(crate) fn ended(&mut self, uid: BatchUid, numbers: impl Iterator<Item = u64>) {
        if self.0.is_empty() {
            return;
        }
        for number in numbers {
            for chunk in self.0.iter_mut().filter(|chunk| chunk.uid == uid) {
                chunk.left.remove(&number);
            }
        }
        for chunk in self.0.extract_if(.., |chunk| chunk.left.is_empty()) {
            chunk.span.end();
        }
    }

    /// The batch is over: what is left of it is of no interest.
    pub(crate) fn release(&mut self, uid: BatchUid) {
        self.0.retain(|chunk| chunk.uid != uid);
    }
}
