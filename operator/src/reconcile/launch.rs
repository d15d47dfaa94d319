//! From a validated batch to what its ventilator is started with.

use std::fmt::Write as _;
use std::time::Duration;

use harmony_api::status::HarmonyBatchStatus;
use harmony_protocol::wire::{Policy, Work};
use harmony_ventilator::source::{Digest, SourceConfig};
use harmony_ventilator::success_policy;

use super::validate::Batch;
use crate::ventilators::{BatchKey, Launch};

/// What the ventilator of a batch is started with. Its deadline is the reconciler's: it may change while the batch runs.
pub(crate) fn launch(batch: &Batch, status: &HarmonyBatchStatus, source: &SourceConfig) -> Launch {
    let spec = &batch.spec;
    Launch {
        key: BatchKey {
            namespace: batch.namespace.clone(),
            name: spec.name.to_string(),
        },
        uid: batch.uid,
        epoch_floor: status.epoch.unwrap_or_default(),
        tasks: spec.tasks.clone(),
        source: source.clone(),
        completions: spec.completions,
        known_digest: status.tasks_digest.as_deref().and_then(read_digest),
        policy: Policy {
            backoff_limit_per_index: spec.backoff_limit_per_index,
            max_bytes_per_task: spec.max_bytes_per_task,
        },
        work: work(batch),
        max_failed: spec.max_failed_indexes,
        deadline: None,
        success: success_policy(&batch.spec.success_policy),
    }
}

/// What workers of this batch need.
pub(crate) fn work(batch: &Batch) -> Work {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Work {
        executor: batch.spec.executor.wire(),
        collector: String::new(),
        max_bytes_per_task: batch.spec.max_bytes_per_task,
        deadline_millis: batch.spec.active_deadline_per_index.map(millis),
    }
}

/// A digest, or a part of one, as status and labels have it.
pub(crate) fn write_digest(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn read_digest(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_was_written() {
        let digest: Digest = std::array::from_fn(|at| u8::try_from(at * 7).unwrap());
        assert_eq!(read_digest(&write_digest(&digest)), Some(digest));
        for wrong in ["", "00", &"zz".repeat(32), &"é".repeat(32)] {
            assert_eq!(read_digest(wrong), None, "{wrong}");
        }
    }
}
