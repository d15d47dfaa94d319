//! The links to collectors: BIND, RESULTS and ACK.

use std::time::Instant;

use bytes::Bytes;

use super::batch::{Batch, Uplink};
use super::outcomes::Next;
use super::{CollectorLink, Output, Piece, Worker};
use crate::dialler::jittered;
use crate::ids::{Alias, BatchUid, LinkId};
use crate::limits::REDIAL_MOST;
use crate::wire::{Bind, ByeCode, Hello, Message, Ping, Role, clip};

impl Worker {
    pub(super) fn greeted(&mut self, now: Instant, link: LinkId, hello: &Hello) {
        let Some(endpoint) = self.dialler.key(link).cloned() else {
            return;
        };
        if hello.role != Role::Collector {
            return self.sessions.refuse(link, "a collector was expected at this endpoint");
        }
        self.dialler.greeted(link);
        self.collectors.insert(
            link,
            CollectorLink {
                allowance: 0,
                under_way: 0,
                told_blocked: None,
            },
        );
        let uids: Vec<_> = self
            .batches
            .iter()
            .filter(|(_, b)| b.work.collector == endpoint)
            .map(|(uid, _)| *uid)
            .collect();
        for uid in uids {
            self.bind(now, uid, link);
        }
    }

    pub(super) fn bind(&mut self, now: Instant, uid: BatchUid, link: LinkId) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        let alias = self.next_alias;
        self.next_alias += 1;
        batch.rebind = None;
        batch.uplink = Uplink::Binding {
            link,
            alias,
            since: batch.unbound_since().unwrap_or(now),
        };
        self.sessions.send(link, alias, &Message::Bind(Bind { uid }));
    }

    pub(super) fn take_from_collector(&mut self, now: Instant, link: LinkId, alias: Alias, message: Message) {
        let bound = |batch: &Batch| matches!(batch.uplink, Uplink::Bound { link: l, alias: a } | Uplink::Binding { link: l, alias: a, .. } if (l, a) == (link, alias));
        let batch = self.batches.iter_mut().find(|(_, batch)| bound(batch));
        match (message, batch) {
            (Message::Ack(ack), batch) => {
                let Some(collector) = self.collectors.get_mut(&link) else {
                    return;
                };
                collector.allowance = ack.allowance;
                if let Some((uid, batch)) = batch {
                    batch.uplink = Uplink::Bound { link, alias };
                    let (messages, weight) = batch.outcomes.acked(ack.sequence);
                    collector.under_way = collector.under_way.saturating_sub(weight);
                    let entries = || messages.iter().flat_map(|message| &message.entries);
                    batch.forget(entries());
                    let spooled = entries().filter(|entry| entry.parted.is_some());
                    self.out.extend(spooled.map(|entry| Output::Unspool {
                        uid: *uid,
                        number: entry.number,
                        attempt: entry.attempt,
                    }));
                }
            }
            (Message::Refused(_), Some((_, batch))) => {
                // The collector discarded what was under way: it goes out again once it is bound anew.
                if let Some(collector) = self.collectors.get_mut(&link) {
                    collector.under_way = collector.under_way.saturating_sub(batch.outcomes.under_way());
                }
                batch.unbind(now, link);
                batch.rebind = Some(now + jittered(&mut self.random, REDIAL_MOST));
            }
            (Message::Refused(_) | Message::Ping(_) | Message::Pong(_), _) => {}
            (other, _) => self
                .sessions
                .refuse(link, &format!("{} is not for a worker from a collector", other.kind())),
        }
    }

    /// Dials the collector of a batch, or binds on the link that stands.
    pub(super) fn move_uplink(&mut self, now: Instant, uid: BatchUid) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        if let Some(link) = batch.uplink_link() {
            batch.unbind(now, link);
        }
        let endpoint = batch.work.collector.clone();
        self.drop_unused_collectors();
        self.dialler.want(now, endpoint.clone(), endpoint.clone());
        let standing = self
            .collectors
            .keys()
            .find(|link| self.dialler.key(**link) == Some(&endpoint))
            .copied();
        if let Some(link) = standing {
            self.bind(now, uid, link);
        }
    }

    pub(super) fn drop_unused_collectors(&mut self) {
        let used = |endpoint: &String| self.batches.values().any(|batch| batch.work.collector == *endpoint);
        let unused: Vec<_> = self
            .dialler
            .keys()
            .filter(|endpoint| !used(endpoint))
            .cloned()
            .collect();
        for endpoint in unused {
            if let Some(link) = self.dialler.forget(&endpoint) {
                self.sessions
                    .close(link, ByeCode::Leaving, "no batch needs this link any more");
            }
        }
    }

    pub(super) fn send_outcomes(&mut self, now: Instant) {
        for (&uid, batch) in &mut self.batches {
            let Uplink::Bound { link, alias } = batch.uplink else {
                continue;
            };
            let Some(collector) = self.collectors.get_mut(&link) else {
                continue;
            };
            while let Some(next) = batch.outcomes.poll(
                now,
                self.part_bytes,
                collector.allowance.saturating_sub(collector.under_way),
            ) {
                match next {
                    Next::Send(message, weight) => {
                        collector.under_way += weight;
                        self.sessions.send(link, alias, message);
                    }
                    Next::Read(piece) => self.out.push_back(Output::ReadPiece { uid, piece }),
                }
            }
        }
        self.tell_blocked();
    }

    /// The answer to [`Output::ReadPiece`]: the bytes, or why they cannot be read.
    pub fn handle_piece(&mut self, now: Instant, uid: BatchUid, piece: Piece, read: Result<Bytes, String>) {
        self.step(now);
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        match read {
            Ok(bytes) => {
                let Uplink::Bound { link, alias } = batch.uplink else {
                    return;
                };
                if let Some(part) = batch.outcomes.part(piece, bytes)
                    && let Some(collector) = self.collectors.get_mut(&link)
                {
                    collector.under_way += part.weight();
                    self.sessions.send(link, alias, &Message::Part(part));
                }
            }
            Err(reason) => {
                let (number, attempt) = (piece.number, piece.attempt);
                let reason = format!("its output cannot be read back: {reason}");
                if batch.outcomes.give_up(piece, clip(&reason).as_str()) {
                    batch.fail(number, attempt);
                    self.out.push_back(Output::Unspool { uid, number, attempt });
                }
            }
        }
    }

    /// Tells a collector at once when an outcome is too large for the allowance, and when it no longer is.
    pub(super) fn tell_blocked(&mut self) {
        for (&link, collector) in &mut self.collectors {
            let waiting = self.batches.values().filter(|batch| batch.uplink_link() == Some(link));
            let smallest = waiting.filter_map(|batch| batch.outcomes.blocked()).min();
            let blocked = smallest.filter(|weight| collector.under_way == 0 && *weight > collector.allowance);
            if blocked != collector.told_blocked {
                collector.told_blocked = blocked;
                self.sessions.ping(
                    link,
                    Ping {
                        blocked,
                        ..Ping::default()
                    },
                );
            }
        }
    }
}
