//! The guard of one link: it stands between the peer and the private socket of zeromq, and lets only frames pass that
//! are within the limits. It sees at once when either side closes and then ends both directions together.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::buffers::Buffers;
use crate::config::LINGER;
use crate::error::CloseReason;
use crate::load::Load;
use crate::pipe::{Passed, Pipe, Stop};
use crate::zmtp;

/// The connection to a peer: TCP, TLS or Unix.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Guard {
    remote: Box<dyn Stream>,
    /// The other end of this socket belongs to zeromq.
    local: UnixStream,
    inbound: Pipe,
    outbound: Pipe,
    buffers: Arc<Buffers>,
    load: Arc<Load>,
    idle_after: Duration,
    heard: Instant,
    idle: Pin<Box<Sleep>>,
}

enum End {
    /// The peer has gone, or is cut off.
    Remote(CloseReason),
    /// The zeromq socket was dropped, and all it had written is sent.
    Local,
}

impl Guard {
    /// Joins two streams whose handshakes are done.
    pub(crate) fn new(
        remote: Box<dyn Stream>,
        local: UnixStream,
        limits: &crate::config::Config,
        buffers: Arc<Buffers>,
        load: Arc<Load>,
    ) -> Self {
        Self {
            remote,
            local,
            inbound: Pipe::new(limits.max_message),
            outbound: Pipe::new(limits.max_message),
            buffers,
            load,
            idle_after: limits.idle_after,
            heard: Instant::now(),
            idle: Box::pin(sleep(limits.idle_after)),
        }
    }

    /// Forwards in both directions until one side ends.
    pub(crate) async fn run(mut self) -> CloseReason {
        match poll_fn(|cx| self.poll_forward(cx)).await {
            End::Remote(reason) => {
                // The peer must see the end at once, while zeromq still hands on what has already arrived: it drops
                // unread messages as soon as a write of its own fails, so its writes go on, to nowhere.
                drop(self.remote);
                let _ = self.local.shutdown().await;
                discard(&mut self.local).await;
                reason
            }
            End::Local => {
                // Closing with unread bytes would reset the connection under what the peer has yet to read.
                let _ = timeout(LINGER, async {
                    let _ = self.remote.shutdown().await;
                    discard(&mut *self.remote).await;
                })
                .await;
                CloseReason::Requested
            }
        }
    }

    fn poll_forward(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(end) = self.poll_inbound(cx) {
            return Poll::Ready(end);
        }
        if let Poll::Ready(end) = self.poll_outbound(cx) {
            return Poll::Ready(end);
        }
        self.poll_idle(cx)
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let heard = &mut self.heard;
            let passed = |_: Passed| *heard = Instant::now();
            match self
                .inbound
                .poll(cx, &mut *self.remote, &mut self.local, &self.buffers, passed)
            {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Stop::Ended) => return Poll::Ready(End::Remote(CloseReason::Peer)),
                Poll::Ready(Stop::Read(error)) => return Poll::Ready(End::Remote(error.into())),
                Poll::Ready(Stop::Violation(violation)) => return Poll::Ready(End::Remote(violation.into())),
                // The link is closing: what zeromq has written still goes out, what comes in has no reader.
                Poll::Ready(Stop::Write) => self.inbound.discard(),
            }
        }
    }

    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let load = &self.load;
            let passed = |passed: Passed| load.sent(passed.messages, passed.bytes);
            match self
                .outbound
                .poll(cx, &mut self.local, &mut *self.remote, &self.buffers, passed)
            {
                Poll::Pending => return Poll::Pending,
                // A socket that is dropped with unread bytes ends in an error instead of an end of file.
                Poll::Ready(Stop::Ended | Stop::Read(_)) => return Poll::Ready(End::Local),
                Poll::Ready(Stop::Violation(violation)) => return Poll::Ready(End::Remote(violation.into())),
                // The peer has closed; what it sent before that is still to be read.
                Poll::Ready(Stop::Write) => self.outbound.discard(),
            }
        }
    }

    /// Silence counts only while we listen: a link whose driver is slow does not read.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while self.idle.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.inbound.is_blocked() {
                self.heard = now;
            }
            let due = self.heard + self.idle_after;
            if due <= now {
                return Poll::Ready(End::Remote(CloseReason::Idle(self.idle_after)));
            }
            self.idle.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// Shakes hands with a peer and guards the link until it ends, as every dialled or accepted link does. For tests that
/// play both the peer and zeromq.
pub async fn guard(
    mut remote: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    local: UnixStream,
    limits: &crate::config::Config,
) -> CloseReason {
    match zmtp::handshake(&mut remote).await {
        Ok(()) => {
            let guard = Guard::new(Box::new(remote), local, limits, Arc::default(), Arc::default());
            guard.run().await
        }
        Err(reason) => reason,
    }
}

async fn discard(stream: &mut (impl AsyncRead + Unpin + ?Sized)) {
    let mut nowhere = vec![0; 4_096];
    while matches!(stream.read(&mut nowhere).await, Ok(read) if read > 0) {}
}
