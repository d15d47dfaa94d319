//! What happened, as a hash that two runs of one seed share, and as text for people.

use std::fmt::{self, Write as _};
use std::time::Duration;

use harmony_protocol::wire::Message;

use crate::observation::Packet;

/// Everything that happens in a run goes through here.
#[derive(Debug)]
pub struct Trace {
    hash: Hash,
    print: bool,
    events: u64,
    /// Keeps what is sent, for tests that look at it.
    pub kept: Option<Vec<Sent>>,
}

/// A message that left.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When.
    pub at: Duration,
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What.
    pub message: Message,
}

/// FNV-1a over all that is noted, 64 bits.
#[derive(Debug)]
struct Hash(u64);

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    /// An empty trace; `print` writes each line to standard output as well.
    pub fn new(print: bool) -> Self {
        Self {
            hash: Hash(0xcbf2_9ce4_8422_2325),
            print,
            events: 0,
            kept: None,
        }
    }

    /// The hash of everything noted so far.
    pub fn hash(&self) -> u64 {
        self.hash.0
    }

    /// How many things were noted.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Notes one line.
    pub fn note(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        self.events += 1;
        self.hash.add(&at.as_nanos().to_le_bytes());
        let _ = self.hash.write_fmt(what);
        if self.print {
            println!("{:>12.6} {what}", at.as_secs_f64());
        }
    }

    /// Notes a message that leaves or arrives; only its bytes are hashed.
    pub fn message(&mut self, at: Duration, who: &str, arrow: &str, peer: &str, packet: &Packet) {
        self.events += 1;
        self.hash.add(&at.as_nanos().to_le_bytes());
        self.hash.add(who.as_bytes());
        self.hash.add(arrow.as_bytes());
        for frame in &packet.frames {
            self.hash.add(frame.get(..frame.len().min(256)).unwrap_or_default());
        }
        if let Some(kept) = &mut self.kept {
            let (from, to) = (who.to_owned(), peer.to_owned());
            let message = (*packet.message).clone();
            kept.push(Sent { at, from, to, message });
        }
        if self.print {
            let text = readable(packet.alias, &packet.message);
            println!("{:>12.6} {who} {arrow} {peer} {text}", at.as_secs_f64());
        }
    }
}

/// A message on one line, without payloads.
fn readable(alias: u32, message: &Message) -> String {
    let mut text = format!("[{alias}] ");
    let _ = match message {
        Message::Tasks(tasks) => {
            let entries: Vec<_> = tasks
                .entries
                .iter()
                .map(|e| format!("{}@{}", e.number, e.attempt))
                .collect();
            let alone = if tasks.alone { " alone" } else { "" };
            write!(text, "TASKS epoch {}{alone} {}", tasks.epoch, entries.join(" "))
        }
        Message::Results(results) => {
            let entries: Vec<_> = results
                .entries
                .iter()
                .map(|e| format!("{}@{}:{:?}", e.number, e.attempt, e.outcome))
                .collect();
            write!(text, "RESULTS {} {}", results.sequence, entries.join(" "))
        }
        Message::Hello(hello) => write!(text, "HELLO {:?} {} {}", hello.role, hello.name, hello.process_id),
        Message::Start(start) => write!(
            text,
            "START epoch {} of {} ({})",
            start.epoch, start.name, start.instance
        ),
        other => write!(text, "{other:?}"),
    };
    text
}
