//! Rule 1: nothing but HELLO is sent on a link before the peer's HELLO.

use std::collections::BTreeSet;

use harmony_protocol::wire::Message;

use super::scene::Seen;
use crate::network::{ConnectionId, PartyId};
use crate::observation::Observation;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    /// Who has the HELLO of its peer.
    greeted: BTreeSet<(ConnectionId, PartyId)>,
}

impl Greetings {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Delivered(carried) if matches!(carried.message, Message::Hello(_)) => {
                self.greeted.insert((carried.connection, carried.to));
            }
            Observation::Sent(carried) if !matches!(carried.message, Message::Hello(_) | Message::Bye(_)) => {
                assert!(
                    self.greeted.contains(&(carried.connection, carried.from)),
                    "rule 1: {} speaks before it was greeted: {:?}",
                    seen.scene.name(carried.from),
                    carried.message
                );
            }
            _ => {}
        }
    }
}
