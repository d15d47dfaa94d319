//! One link: its handle for senders, and the task that moves messages between zeromq and the driver.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use harmony_protocol::ids::LinkId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use zeromq::{DealerRecvHalf, DealerSendHalf, SocketEvent, SocketRecv, SocketSend, ZmqMessage};

use crate::config::{Config, FLUSH_WITHIN, MAX_PARTS};
use crate::counters::{Tally, locked};
use crate::error::CloseReason;
use crate::events::{Event, EventSender};
use crate::guard::{Guard, Stream as Connection};
use crate::load::Load;
use crate::local;
use crate::thread::Context;
use crate::zmtp::wire_size;

/// Messages taken from the queue at once.
const BATCH: usize = 64;

/// The sender's side of a link. Dropping it closes the link after what is queued has been sent.
struct Handle {
    queue: mpsc::UnboundedSender<Vec<Bytes>>,
    load: Arc<Load>,
    cut: oneshot::Sender<CloseReason>,
}

/// The socket thread's side of a link.
pub(crate) struct Ends {
    pub(crate) link: LinkId,
    queue: mpsc::UnboundedReceiver<Vec<Bytes>>,
    load: Arc<Load>,
    cut: oneshot::Receiver<CloseReason>,
}

/// All links that can be sent to.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<LinkId, Handle>>);

impl Links {
    pub(crate) fn open(&self, link: LinkId) -> Ends {
        let (sender, queue) = mpsc::unbounded_channel();
        let (cut, cut_receiver) = oneshot::channel();
        let load = Arc::<Load>::default();
        locked(&self.0).insert(
            link,
            Handle {
                queue: sender,
                load: Arc::clone(&load),
                cut,
            },
        );
        Ends {
            link,
            queue,
            load,
            cut: cut_receiver,
        }
    }

    pub(crate) fn close(&self, link: LinkId) {
        locked(&self.0).remove(&link);
    }

    /// Ends a link without a flush.
    pub(crate) fn cut(&self, link: LinkId) {
        if let Some(handle) = locked(&self.0).remove(&link) {
            // If the link has ended meanwhile, its Closed event is on the way.
            let _ = handle.cut.send(CloseReason::Requested);
        }
    }

    pub(crate) fn len(&self) -> usize {
        locked(&self.0).len()
    }

    pub(crate) fn send(&self, link: LinkId, frames: Vec<Bytes>, config: &Config) {
        let mut links = locked(&self.0);
        let Some(handle) = links.get(&link) else { return };
        let bytes = frames.iter().map(Bytes::len).sum();
        let refusal = if frames.is_empty() || frames.len() > MAX_PARTS || bytes > config.max_message {
            CloseReason::Unsendable {
                parts: frames.len(),
                bytes,
            }
        } else if handle.load.take(wire_size(&frames), config.max_queued_bytes) {
            // If the link has ended meanwhile, its Closed event is on the way.
            let _ = handle.queue.send(frames);
            return;
        } else {
            CloseReason::Overflow
        };
        if let Some(handle) = links.remove(&link) {
            let _ = handle.cut.send(refusal);
        }
    }
}

impl Ends {
    /// Waits until the link is cut off, or closed by its driver.
    pub(crate) async fn ended(&mut self) -> CloseReason {
        (&mut self.cut).await.unwrap_or(CloseReason::Requested)
    }
}

/// Runs a link over a connection whose handshake is done, until it ends; tells the driver of both.
pub(crate) async fn run(context: Arc<Context>, remote: Box<dyn Connection>, peer: Option<String>, ends: Ends) {
    let link = ends.link;
    context.tally.opened();
    let reason = match context.events.send(Event::Opened { link, peer }).await {
        Ok(()) => carry(&context, remote, ends).await.unwrap_or_else(|reason| reason),
        Err(_) => CloseReason::Requested,
    };
    finish(&context, link, reason, true).await;
}

/// Forgets a link and tells the driver.
pub(crate) async fn finish(context: &Context, link: LinkId, reason: CloseReason, stood: bool) {
    context.links.close(link);
    context.tally.closed(&reason, stood);
    tracing::debug!(?link, %reason, "link closed");
    // Without a driver nobody needs to know.
    let _ = context.events.send(Event::Closed { link, reason }).await;
}

async fn carry(
    context: &Arc<Context>,
    remote: Box<dyn Connection>,
    mut ends: Ends,
) -> Result<CloseReason, CloseReason> {
    let local = local::dealer().await?;
    let (sender, receiver) = local.dealer.split();
    let guard = Guard::new(
        remote,
        local.stream,
        &context.config,
        Arc::clone(&context.buffers),
        Arc::clone(&ends.load),
    );
    let mut guard = AbortOnDrop(tokio::spawn(guard.run()));
    tokio::select! {
        biased;
        reason = cut_off(&mut ends.cut) => return Ok(reason),
        () = receive(ends.link, receiver, local.monitor, (&context.events, &context.tally)) => {}
        () = transmit(sender, ends.queue, &context.tally) => {}
    }
    // A cut also ends the queue, and may have come just after it was looked for.
    if let Ok(reason) = ends.cut.try_recv() {
        return Ok(reason);
    }
    // Both halves are dropped by now: zeromq writes what it has, and the guard ends when that is sent.
    match timeout(FLUSH_WITHIN, &mut guard.0).await {
        Ok(Ok(reason)) => Ok(reason),
        Ok(Err(failed)) => Ok(CloseReason::Private(failed.to_string())),
        Err(_) => Ok(CloseReason::Requested),
    }
}

/// Waits until the link is cut off. A driver that closes it drops the sender; then the end of the queue counts.
async fn cut_off(cut: &mut oneshot::Receiver<CloseReason>) -> CloseReason {
    match cut.await {
        Ok(reason) => reason,
        Err(_) => pending().await,
    }
}

/// Hands messages to the driver until the connection is gone and everything from it was read.
async fn receive(
    link: LinkId,
    mut receiver: DealerRecvHalf,
    mut monitor: impl Stream<Item = SocketEvent> + Unpin,
    (events, tally): (&EventSender, &Tally),
) {
    loop {
        let message = tokio::select! {
            biased;
            message = receiver.recv() => message,
            event = monitor.next() => match event {
                Some(SocketEvent::Disconnected(_)) | None => return,
                Some(_) => continue,
            },
        };
        // The guard lets only whole frames of a sound message pass, so an error is a message cut short by the end.
        let Ok(message) = message else { return };
        let frames = message.into_vec();
        tally.received(&frames);
        if events.send(Event::Message { link, frames }).await.is_err() {
            return;
        }
    }
}

/// Hands queued messages to zeromq until the driver closes the link. Its queue holds more than ours, so this never waits.
async fn transmit(mut sender: DealerSendHalf, mut queue: mpsc::UnboundedReceiver<Vec<Bytes>>, tally: &Tally) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        for frames in batch.drain(..) {
            tally.sent(&frames);
            let Ok(message) = ZmqMessage::try_from(frames) else {
                continue;
            };
            if sender.send(message).await.is_err() {
                // The connection is gone; the receiving side sees it when it has read the rest.
                return pending().await;
            }
        }
    }
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop<T>(pub(crate) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
