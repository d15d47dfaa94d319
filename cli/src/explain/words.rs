//! What the ventilator's words mean to people.

use harmony_protocol::limits::{DEAD_AFTER, SILENT_AFTER};
use harmony_protocol::ventilator::{
    CollectorStage, CollectorView, Hold, NoRoom, Rooms, Suspect, Uploading, WorkerExplanation, WorkerStage,
};
use harmony_protocol::wire::Health;
use k8s_openapi::jiff::Timestamp;

use crate::status::age::between;

/// The silence of a peer, in milliseconds, if it is worth telling.
pub(super) fn silence(millis: Option<u64>) -> Option<u64> {
    millis.filter(|silent| u128::from(*silent) > SILENT_AFTER.as_millis())
}

/// How long something takes: `0.4s`, `45s`, `12m`, `3h20m`.
pub(crate) fn span(millis: u64) -> String {
    if millis < 10_000 {
        let tenths = millis / 100;
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    let end = i64::try_from(millis)
        .ok()
        .and_then(|end| Timestamp::from_millisecond(end).ok());
    between(Timestamp::UNIX_EPOCH, end.unwrap_or(Timestamp::MAX))
}

/// So many tasks.
pub(super) fn tasks(count: u64) -> String {
    count_of(count, "task")
}

/// So many workers: those that the ventilator has a link to, or tries to have one, and not those that cannot start.
pub(super) fn running_workers(count: u64) -> String {
    count_of(count, "running worker")
}

fn count_of(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// A number, or a range of them.
pub(super) fn numbers(first: u64, last: u64) -> String {
    if first == last {
        format!("task {first}")
    } else {
        format!("tasks {first}-{last}")
    }
}

/// Why tasks that are ready are not sent.
pub(super) fn hold(hold: &Hold, collector: &CollectorView) -> String {
    match hold {
        Hold::Over => "the ventilator has ended".to_owned(),
        Hold::Cancelling { why } => format!("the batch is being ended early ({why})"),
        Hold::Draining => "the run is being stopped: nothing new is sent".to_owned(),
        Hold::Collector => collector_stage(collector.stage).to_owned(),
        Hold::CollectorSilent => {
            "the collector is out of reach: it may have recorded what was sent before, so that is not sent twice"
                .to_owned()
        }
        Hold::ManyRetries => {
            "very many tasks wait for their next attempt, and no other ones are begun before".to_owned()
        }
        Hold::Locating => {
            "a ventilator has taken over, and waits until the workers have said what they hold".to_owned()
        }
        Hold::NoWorker => "no worker is ready".to_owned(),
        Hold::NoRoom(rooms) => no_room(*rooms),
        Hold::OthersAlone { workers: 1 } => {
            "another task runs alone, and one worker at most is used for that".to_owned()
        }
        Hold::OthersAlone { workers } => {
            format!("{workers} other tasks run alone, and no more workers are used for that")
        }
    }
}

fn no_room(rooms: Rooms) -> String {
    let Rooms {
        credit,
        share,
        bytes,
        alone,
        uploads,
    } = rooms;
    let all = credit + share + bytes + alone + uploads;
    let parts = [
        (credit, "full"),
        (share, "with their share of what is left"),
        (bytes, "without room for so large a payload"),
        (alone, "running a task alone"),
        (uploads, "waiting until a long payload that is on its way is complete"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    match all {
        1 => format!("the worker is busy ({})", parts.join(", ")),
        _ => format!("the {all} workers are busy ({})", parts.join(", ")),
    }
}

/// What is wrong with the collector, if anything is.
pub(super) fn collector(view: &CollectorView) -> Option<String> {
    if view.stage != CollectorStage::Ready {
        return Some(collector_stage(view.stage).to_owned());
    }
    if view.health == Health::DiskFull {
        return Some("the collector's disk is full: recording pauses until there is room".to_owned());
    }
    let silent = silence(view.silent_millis)?;
    Some(format!(
        "the collector has been silent for {}; after {}s its link is given up",
        span(silent),
        DEAD_AFTER.as_secs()
    ))
}

fn collector_stage(stage: CollectorStage) -> &'static str {
    match stage {
        CollectorStage::Absent => {
            "the collector does not answer: it starts, or is dead, and is started again by itself"
        }
        CollectorStage::Asked => "the collector is asked whose the batch is, and has not answered yet",
        CollectorStage::ClaimWaits => "the claim of the batch waits until its epoch is kept",
        CollectorStage::Claimed => "the collector opens the batch's log, and has not told yet what is recorded",
        CollectorStage::Ready => "the collector answers",
    }
}

/// One worker, in a line.
pub(super) fn worker(worker: &WorkerExplanation) -> String {
    let mut parts = vec![worker_state(worker)];
    if worker.in_flight > 0 {
        let oldest = worker
            .oldest_millis
            .map(|oldest| format!(", the oldest for {}", span(oldest)));
        parts.push(format!(
            "{} there{}",
            tasks(worker.in_flight),
            oldest.unwrap_or_default()
        ));
    }
    format!("{}: {}", worker.name, parts.join("; "))
}

/// How a worker is, in some words.
pub(crate) fn worker_state(worker: &WorkerExplanation) -> String {
    if let Some(silent) = silence(worker.silent_millis) {
        let given_up = DEAD_AFTER.as_secs();
        return format!("silent for {}, after {given_up}s its tasks go elsewhere", span(silent));
    }
    let state = match worker.stage {
        WorkerStage::Dialling => "does not answer yet",
        WorkerStage::Greeted => "answers, and waits for the collector",
        WorkerStage::Started => "prepares for the batch",
        WorkerStage::Unbound => "has lost the collector, its tasks went elsewhere",
        WorkerStage::Closed => "refused the batch, or leaves",
        WorkerStage::Ready if worker.draining => "drains: gets nothing new",
        WorkerStage::Ready => match worker.no_room {
            None => "has room",
            Some(NoRoom::Credit) => "full",
            Some(NoRoom::Share) => "has its share of what is left",
            Some(NoRoom::Bytes) => "has no room for so large a payload",
            Some(NoRoom::Alone) => "runs a task alone",
            Some(NoRoom::Uploads) => "waits until a long payload that is on its way is complete",
        },
    };
    state.to_owned()
}

/// How far a payload is.
pub(super) fn uploading(uploading: &Uploading) -> String {
    let tenths = |bytes: u64| (bytes * 10) >> 20;
    let mebibytes = |bytes: u64| format!("{}.{}", tenths(bytes) / 10, tenths(bytes) % 10);
    format!(
        "{} of the {} MiB of its payload have gone to {}",
        mebibytes(uploading.sent),
        mebibytes(uploading.length),
        uploading.worker
    )
}

/// A worker that went away.
pub(super) fn suspect(suspect: &Suspect) -> String {
    format!(
        "{} went away {} ago with {}; it counts as dead in {} unless it comes back",
        suspect.worker,
        span(suspect.gone_millis),
        tasks(suspect.in_flight),
        span(suspect.given_up_in_millis)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (millis, text) in [
            (0, "0.0s"),
            (450, "0.4s"),
            (9_999, "9.9s"),
            (45_200, "45s"),
            (720_000, "12m"),
        ] {
            assert_eq!(span(millis), text);
        }
    }

    #[test]
    fn rooms_are_told_by_their_reasons() {
        let rooms = Rooms {
            credit: 3,
            alone: 1,
            ..Rooms::default()
        };
        assert_eq!(
            no_room(rooms),
            "the 4 workers are busy (3 full, 1 running a task alone)"
        );
        let one = Rooms {
            credit: 1,
            ..Rooms::default()
        };
        assert_eq!(no_room(one), "the worker is busy (1 full)");
    }
}
