//! L1, L2 and rule 6: when nothing is in the way, there is progress, and questions are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harmony_protocol::ids::{Alias, BatchUid};
use harmony_protocol::wire::Message;

use super::scene::Seen;
use crate::network::ConnectionId;
use crate::observation::{Carried, Observation, Role};

/// The longest time without progress while nothing goes wrong. A worker that is gone unseen is missed after 30 s; then
/// the longest pause between dials, the wait of a takeover, the pause before the next END and the longest tasks add up.
const PROGRESS_WITHIN: Duration = Duration::from_mins(1);

/// MISSING answers END within this time, beyond the longest delay of the executor of the collector's disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// RESULTS are acked within this time: group commit, the slowest fsync, and a disk that is asked again each second.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// When anything got in the way for the last time.
    disturbed: Duration,
    /// When the settled numbers of a batch changed for the last time, and how many there were.
    progress: BTreeMap<BatchUid, (Duration, usize)>,
    /// ENDs that were not answered yet.
    questions: BTreeMap<(ConnectionId, Alias), Duration>,
    /// RESULTS that were not acked yet, by sequence.
    unacked: BTreeMap<(ConnectionId, Alias), BTreeMap<u64, Duration>>,
    refused: BTreeSet<(ConnectionId, Alias)>,
}

impl Liveness {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Struck(_)
            | Observation::Healed(_)
            | Observation::Paused { .. }
            | Observation::Started { .. }
            | Observation::Ended { .. }
            | Observation::Spared { .. }
            | Observation::Damaged(..) => self.disturb(seen.at),
            Observation::LinkClosed { connection, .. } => {
                self.disturbed = seen.at;
                self.questions.retain(|(on, _), _| *on != connection);
                self.unacked.retain(|(on, _), _| *on != connection);
            }
            Observation::Synced(uid) => {
                let settled = seen.facts(uid).settled.len();
                let known = self.progress.entry(uid).or_default();
                if known.1 != settled {
                    *known = (seen.at, settled);
                }
            }
            Observation::Delivered(carried) => self.take(seen, &carried),
            Observation::Sent(carried) => self.answer(&carried),
            _ => {}
        }
        if seen.scene.disk_full() {
            self.disturb(seen.at);
        }
        self.check_questions(seen);
    }

    /// Nothing that is due now has to be there in time.
    fn disturb(&mut self, at: Duration) {
        self.disturbed = at;
        self.questions.clear();
        self.unacked.clear();
    }

    fn take(&mut self, seen: &Seen<'_>, carried: &Carried<'_>) {
        if seen.scene.role(carried.to) != Some(Role::Collector) {
            return self.check_progress(seen, carried);
        }
        let place = (carried.connection, carried.alias);
        match carried.message {
            Message::End(end) => {
                if let Some(uid) = seen.scene.batch(carried)
                    && end.epoch >= seen.facts(uid).epoch()
                {
                    self.questions.insert(place, seen.at);
                }
            }
            Message::Results(results) if !self.refused.contains(&place) => {
                let unacked = self.unacked.entry(place).or_default();
                unacked.insert(results.sequence, seen.at);
            }
            _ => {}
        }
    }

    fn answer(&mut self, carried: &Carried<'_>) {
        let place = (carried.connection, carried.alias);
        match carried.message {
            Message::Missing(_) | Message::Done(_) => drop(self.questions.remove(&place)),
            Message::Refused(_) => {
                self.questions.remove(&place);
                self.unacked.remove(&place);
                self.refused.insert(place);
            }
            Message::Ack(ack) => {
                if let Some(unacked) = self.unacked.get_mut(&place) {
                    *unacked = unacked.split_off(&(ack.sequence + 1));
                }
            }
            _ => {}
        }
    }

    fn check_questions(&self, seen: &Seen<'_>) {
        for (place, asked) in &self.questions {
            assert!(
                seen.at <= *asked + ANSWER_WITHIN,
                "L2: END on {place:?} has got no answer since {asked:?}"
            );
        }
        for (place, unacked) in &self.unacked {
            if let Some((sequence, since)) = unacked.first_key_value() {
                assert!(
                    seen.at <= *since + ACK_WITHIN,
                    "rule 6: RESULTS {sequence} on {place:?} were not acked since {since:?}"
                );
            }
        }
    }

    /// A ventilator hears its collector, and so could go on.
    fn check_progress(&self, seen: &Seen<'_>, carried: &Carried<'_>) {
        let Some(Role::Ventilator(batch)) = seen.scene.role(carried.to) else {
            return;
        };
        if !matches!(carried.message, Message::Ping(_)) || seen.scene.role(carried.from) != Some(Role::Collector) {
            return;
        }
        let uid = seen.oracle[batch].uid;
        let last = self.progress.get(&uid).map_or(Duration::ZERO, |(at, _)| *at);
        let ended = seen.facts(uid).ended.is_some();
        assert!(
            ended || seen.at <= last.max(self.disturbed) + PROGRESS_WITHIN,
            "L1: nothing of {uid} has settled since {last:?}, and nothing was in the way since {:?}",
            self.disturbed
        );
    }
}
