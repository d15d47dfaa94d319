//! What the links tell the driver, through a channel that is bounded in messages and in bytes.

use std::sync::Arc;

use bytes::Bytes;
use harmony_protocol::ids::LinkId;
use tokio::sync::{Semaphore, mpsc};

use crate::config::{MAX_EVENT_BYTES, MAX_EVENTS};
use crate::error::CloseReason;

/// What happened on a link. `Closed` is the last event of every link; a failed dial has only this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link stands.
    Opened {
        /// The link.
        link: LinkId,
        /// The first name (SAN) in the peer's certificate, if it showed one.
        peer: Option<String>,
    },
    /// A message arrived. The frames share one buffer: copy what is kept for long.
    Message {
        /// The link.
        link: LinkId,
        /// Its frames, at least one.
        frames: Vec<Bytes>,
    },
    /// The link has ended, or could not be dialled.
    Closed {
        /// The link.
        link: LinkId,
        /// Why.
        reason: CloseReason,
    },
}

/// The driver's end. While it does not take events, the links stop reading from their peers.
pub struct Events {
    queue: mpsc::Receiver<Event>,
    room: Arc<Semaphore>,
}

#[derive(Clone)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<Event>,
    room: Arc<Semaphore>,
}

pub(crate) fn channel() -> (EventSender, Events) {
    let (sender, queue) = mpsc::channel(MAX_EVENTS);
    let room = Arc::new(Semaphore::new(MAX_EVENT_BYTES));
    (
        EventSender {
            queue: sender,
            room: Arc::clone(&room),
        },
        Events { queue, room },
    )
}

impl Events {
    /// The next event, in order per link; `None` once the transport has ended. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.queue.recv().await?;
        self.release(&event);
        Some(event)
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<Event> {
        let event = self.queue.try_recv().ok()?;
        self.release(&event);
        Some(event)
    }

    fn release(&self, event: &Event) {
        if let Event::Message { frames, .. } = event {
            self.room.add_permits(weight(frames));
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// The driver has dropped its end.
pub(crate) struct Deaf;

impl EventSender {
    pub(crate) async fn send(&self, event: Event) -> Result<(), Deaf> {
        if let Event::Message { frames, .. } = &event {
            let weight = u32::try_from(weight(frames)).unwrap_or(u32::MAX);
            self.room.acquire_many(weight).await.map_err(|_| Deaf)?.forget();
        }
        self.queue.send(event).await.map_err(|_| Deaf)
    }
}

fn weight(frames: &[Bytes]) -> usize {
    frames.iter().map(Bytes::len).sum::<usize>().min(MAX_EVENT_BYTES)
}
