//! What all three machines share: greeting, heartbeats and goodbyes on every link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::ids::{Alias, LinkId, ProcessId};
use crate::limits::{DEAD_AFTER, HEARTBEAT, HELLO_WITHIN, MAX_PAYLOAD, STEP_GAP};
use crate::mutant::{self, Mutant};
use crate::wire::{self, Bye, ByeCode, Frames, Hello, Message, Ping, Pong, Role};

/// The versions of HARMONY that this crate speaks.
pub const VERSIONS: (u8, u8) = (1, 1);

/// Who this process is on all its links.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What it is.
    pub role: Role,
    /// Its name, as people see it.
    pub name: String,
    /// Random per process.
    pub process_id: ProcessId,
    /// How many tasks a worker runs at once.
    pub slots: Option<u32>,
}

/// What a machine asks of its links.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkOutput {
    /// Dial this endpoint; the answer is an opened or a closed link.
    Dial {
        /// The new link.
        link: LinkId,
        /// Where to.
        endpoint: String,
    },
    /// Send a message.
    Send {
        /// On which link.
        link: LinkId,
        /// The message.
        frames: Frames,
    },
    /// Flush and close; the link is reported closed afterwards.
    Close {
        /// Which link.
        link: LinkId,
    },
    /// Drop at once, with all that is queued: nobody reads at the other end. The link is reported closed afterwards.
    Cut {
        /// Which link.
        link: LinkId,
    },
}

/// What a message means to the machine.
#[derive(Clone, Debug)]
pub(crate) enum Received {
    /// Nothing more is to be done.
    Nothing,
    /// The peer said who it is; from now on messages may be sent.
    Greeted(Hello),
    /// A message for the machine.
    Message(Alias, Message),
}

#[derive(Clone, Debug)]
struct Session {
    hello: Option<Hello>,
    opened: Instant,
    heard: Instant,
    pinged: Instant,
    said_bye: bool,
    closing: bool,
}

impl Session {
    /// When it counts as dead if nothing is heard until then.
    fn dead_at(&self) -> Instant {
        if mutant::on(Mutant::SilenceForgiven) {
            self.heard + DEAD_AFTER * 1000
        } else if self.hello.is_some() {
            self.heard + DEAD_AFTER
        } else {
            self.opened + HELLO_WITHIN
        }
    }
}

/// All links of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    identity: Identity,
    links: BTreeMap<LinkId, Session>,
    /// Links that are closing, until the machine has asked.
    given_up: BTreeSet<LinkId>,
    out: VecDeque<LinkOutput>,
    stepped: Option<Instant>,
    /// When the links are to be looked after next.
    beat: Option<Instant>,
    nonce: u64,
    /// Messages that broke the protocol.
    pub(crate) malformed: u64,
}

impl Sessions {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            links: BTreeMap::new(),
            given_up: BTreeSet::new(),
            out: VecDeque::new(),
            stepped: None,
            beat: None,
            nonce: 0,
            malformed: 0,
        }
    }

    /// To be called first in every `handle_*`. Returns by how much this machine was late: it cannot judge the silence of others then.
    pub(crate) fn step(&mut self, now: Instant) -> Option<Duration> {
        let gap = self.stepped.and_then(|then| now.checked_duration_since(then));
        self.stepped = Some(now);
        let gap = gap.filter(|gap| *gap > STEP_GAP && !self.links.is_empty())?;
        for session in self.links.values_mut() {
            session.heard = now;
            session.opened = now;
        }
        Some(gap)
    }

    pub(crate) fn opened(&mut self, now: Instant, link: LinkId) {
        let session = Session {
            hello: None,
            opened: now,
            heard: now,
            pinged: now,
            said_bye: false,
            closing: false,
        };
        if self.links.is_empty() {
            self.beat = Some(now + HEARTBEAT / 2);
        }
        self.links.insert(link, session);
        let hello = Hello {
            versions: VERSIONS,
            role: self.identity.role,
            name: self.identity.name.clone(),
            process_id: self.identity.process_id,
            slots: self.identity.slots,
            max_payload: MAX_PAYLOAD,
            heartbeat_millis: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
        };
        self.transmit(link, 0, &Message::Hello(hello));
    }

    /// Takes a message in: decodes it, keeps the greeting and the heartbeat, and hands on what the machine must see.
    pub(crate) fn receive(&mut self, now: Instant, link: LinkId, frames: &Frames) -> Received {
        let Some(session) = self.links.get_mut(&link) else {
            return Received::Nothing;
        };
        if session.closing {
            return Received::Nothing;
        }
        session.heard = now;
        let greeted = session.hello.is_some();
        match wire::decode(frames) {
            Ok((_, Message::Hello(hello))) if !greeted => self.greet(link, hello),
            Ok((_, Message::Bye(_))) => {
                session.said_bye = true;
                session.closing = true;
                self.given_up.insert(link);
                self.out.push_back(LinkOutput::Close { link });
                Received::Nothing
            }
            Ok((alias, Message::Ping(ping))) if greeted => {
                self.transmit(link, 0, &Message::Pong(Pong { nonce: ping.nonce }));
                Received::Message(alias, Message::Ping(ping))
            }
            Ok((alias, message)) if greeted && !matches!(message, Message::Hello(_)) => {
                Received::Message(alias, message)
            }
            Ok((_, message)) => {
                let when = if greeted { "after" } else { "before" };
                self.refuse(link, &format!("unexpected {} {when} the greeting", message.kind()));
                Received::Nothing
            }
            Err(error) => {
                self.refuse(link, &error.to_string());
                Received::Nothing
            }
        }
    }

    fn greet(&mut self, link: LinkId, hello: Hello) -> Received {
        let (low, high) = hello.versions;
        if low > VERSIONS.1 || high < VERSIONS.0 {
            let reason = format!(
                "this side speaks versions {} to {}, the other {low} to {high}",
                VERSIONS.0, VERSIONS.1
            );
            self.close(link, ByeCode::Version, &reason);
            return Received::Nothing;
        }
        if let Some(session) = self.links.get_mut(&link) {
            session.hello = Some(hello.clone());
        }
        Received::Greeted(hello)
    }

    /// Closes a link whose peer broke the protocol.
    pub(crate) fn refuse(&mut self, link: LinkId, reason: &str) {
        self.malformed += 1;
        self.close(link, ByeCode::Malformed, reason);
    }

    /// Says BYE and closes.
    pub(crate) fn close(&mut self, link: LinkId, code: ByeCode, reason: &str) {
        let open = self.links.get(&link).is_some_and(|session| !session.closing);
        if open {
            self.transmit(
                link,
                0,
                &Message::Bye(Bye {
                    code,
                    reason: reason.to_owned(),
                }),
            );
            if let Some(session) = self.links.get_mut(&link) {
                session.closing = true;
                self.given_up.insert(link);
            }
        }
        self.out.push_back(LinkOutput::Close { link });
    }

    /// Says BYE on all links.
    pub(crate) fn close_all(&mut self, code: ByeCode, reason: &str) {
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.close(link, code, reason);
        }
    }

    /// Forgets a link that is gone. Returns who was there, and whether it said BYE.
    pub(crate) fn closed(&mut self, link: LinkId) -> Option<(Option<Hello>, bool)> {
        self.given_up.remove(&link);
        self.links
            .remove(&link)
            .map(|session| (session.hello, session.said_bye))
    }

    /// The next link that is closing, and whether the peer said BYE: the driver reports it closed later, but nothing is sent
    /// on it any more. Each is told once.
    pub(crate) fn poll_given_up(&mut self) -> Option<(LinkId, bool)> {
        let link = self.given_up.pop_first()?;
        let said_bye = self.links.get(&link).is_some_and(|session| session.said_bye);
        Some((link, said_bye))
    }

    /// Sends a message, if the peer has greeted and the link still stands.
    pub(crate) fn send(&mut self, link: LinkId, alias: Alias, message: &Message) {
        if self.is_ready(link) {
            self.transmit(link, alias, message);
        }
    }

    fn transmit(&mut self, link: LinkId, alias: Alias, message: &Message) {
        if self.links.contains_key(&link) {
            self.out.push_back(LinkOutput::Send {
                link,
                frames: wire::encode(alias, message),
            });
        }
    }

    /// Whether messages may be sent on a link.
    pub(crate) fn is_ready(&self, link: LinkId) -> bool {
        self.links
            .get(&link)
            .is_some_and(|session| session.hello.is_some() && !session.closing)
    }

    /// When a peer was heard of last.
    pub(crate) fn heard(&self, link: LinkId) -> Option<Instant> {
        self.links.get(&link).map(|session| session.heard)
    }

    /// Who is at the other end of a link.
    pub(crate) fn hello(&self, link: LinkId) -> Option<&Hello> {
        self.links.get(&link)?.hello.as_ref()
    }

    /// Sends the PINGs that are due (`fill` adds what only the machine knows) and cuts links that are silent for too long.
    pub(crate) fn heartbeat(&mut self, now: Instant, mut fill: impl FnMut(LinkId) -> Ping) {
        let mut beat = now + HEARTBEAT / 2;
        let mut due = Vec::new();
        let mut dead = Vec::new();
        for (&link, session) in &mut self.links {
            if session.closing {
                continue;
            }
            let dead_at = session.dead_at();
            if now >= dead_at {
                session.closing = true;
                dead.push(link);
                continue;
            }
            beat = beat.min(dead_at);
            if session.hello.is_some() && now >= session.pinged + HEARTBEAT {
                session.pinged = now;
                due.push(link);
            }
        }
        self.beat = Some(beat);
        for link in dead {
            self.given_up.insert(link);
            self.out.push_back(LinkOutput::Cut { link });
        }
        for link in due {
            let ping = fill(link);
            self.ping(link, ping);
        }
    }

    /// Sends one PING and returns the nonce that its PONG will echo.
    pub(crate) fn ping(&mut self, link: LinkId, ping: Ping) -> u64 {
        self.nonce += 1;
        self.send(
            link,
            0,
            &Message::Ping(Ping {
                nonce: self.nonce,
                ..ping
            }),
        );
        self.nonce
    }

    /// When [`Self::heartbeat`] is to be called next: twice in each heartbeat, so that [`Self::step`] can tell a pause
    /// from idleness, and when a link has been silent for too long. Messages that come in do not put it off.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.beat.filter(|_| !self.links.is_empty())
    }

    pub(crate) fn dial(&mut self, link: LinkId, endpoint: String) {
        self.out.push_back(LinkOutput::Dial { link, endpoint });
    }

    pub(crate) fn poll_output(&mut self) -> Option<LinkOutput> {
        self.out.pop_front()
    }

    /// How many links there are.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }
}
