//! The collector machine, message by message.

#![allow(clippy::expect_used, reason = "the helpers of a test may panic, as the test may")]

use std::time::Instant;

use harmony_protocol::collector::{BatchState, Collector, Config, Opened, Output};
use harmony_protocol::ids::{BatchUid, LinkId, LogId, ProcessId};
use harmony_protocol::wire::{Bind, Hello, Message, RefusedCode, Role, decode, encode};
use harmony_protocol::{Identity, LinkOutput, VERSIONS};
use uuid::Uuid;

const UID: BatchUid = BatchUid(Uuid::from_u128(1));

/// A collector, and the time.
struct Stage {
    machine: Collector,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let identity = Identity {
            role: Role::Collector,
            name: "collector".into(),
            process_id: ProcessId(Uuid::from_u128(2)),
            slots: None,
        };
        Self {
            machine: Collector::new(Config::new(identity, (now, 0))),
            now,
        }
    }

    /// A peer that has greeted.
    fn link(&mut self, n: u64, role: Role) -> LinkId {
        let link = LinkId::accepted(n);
        self.machine.handle_link_opened(self.now, link);
        let hello = Hello {
            versions: VERSIONS,
            role,
            name: format!("peer-{n}"),
            process_id: ProcessId(Uuid::from_u128(100 + u128::from(n))),
            slots: None,
            max_payload: 1,
            heartbeat_millis: 1_000,
        };
        self.tell(link, 0, &Message::Hello(hello));
        link
    }

    fn tell(&mut self, link: LinkId, alias: u32, message: &Message) {
        self.machine.handle_message(self.now, link, &encode(alias, message));
    }

    fn outputs(&mut self) -> Vec<Output> {
        let outputs = std::iter::from_fn(|| self.machine.poll_output(self.now)).collect();
        self.machine.sanity_check();
        outputs
    }

    /// The messages that leave on a link.
    fn said(&mut self, link: LinkId) -> Vec<Message> {
        let sent = self.outputs().into_iter().filter_map(|output| match output {
            Output::Link(LinkOutput::Send { link: to, frames }) if to == link => Some(frames),
            _ => None,
        });
        sent.map(|frames| decode(&frames).expect("machines send what can be read").1)
            .collect()
    }
}

#[test]
fn a_log_without_a_claim_takes_no_outcomes() {
    let mut stage = Stage::new();
    let worker = stage.link(1, Role::Worker);
    stage.tell(worker, 1, &Message::Bind(Bind { uid: UID }));
    let opened = Opened::Batch {
        state: Box::new(BatchState::default()),
        log_id: LogId(Uuid::from_u128(3)),
    };
    stage.machine.handle_opened(stage.now, UID, opened);
    let said = stage.said(worker);
    assert!(
        said.iter()
            .any(|m| matches!(m, Message::Refused(r) if r.code == RefusedCode::NotStarted)),
        "BIND to a log that nobody claimed: {said:?}"
    );
}
