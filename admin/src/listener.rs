//! A listener whose connections are bounded in number and in silence.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once at one address; further ones wait until one ends. A scraper and some probes need a handful.
pub const CONNECTIONS: usize = 64;
/// A connection at the public address on which nothing moves for this long is closed, so that silent ones cannot lock
/// the probes out: somewhat above the interval at which scrapers come back.
pub const IDLE_AFTER: Duration = Duration::from_secs(75);

/// Accepts connections.
pub(crate) struct Bounded<L> {
    listener: L,
    permits: Arc<Semaphore>,
    idle_after: Option<Duration>,
}

impl<L> Bounded<L> {
    /// Connections that stay silent for `idle_after` are closed.
    pub(crate) fn new(listener: L, idle_after: Option<Duration>) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle_after,
        }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, from) = self.listener.accept().await;
        let idle = self.idle_after.map(|after| (after, Box::pin(sleep(after))));
        let connection = Connection {
            stream,
            idle,
            _permit: permit,
        };
        (connection, from)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// One connection.
pub(crate) struct Connection<S> {
    stream: S,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<S> Connection<S> {
    /// Passes on what a read or a write gave, or that nothing has moved for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some((after, idle)) = &mut self.idle else {
            return moved;
        };
        if moved.is_ready() {
            idle.as_mut().reset(Instant::now() + *after);
            return moved;
        }
        ready!(idle.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::Router;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_silent_connection_is_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let at = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut silent = std::net::TcpStream::connect(at).unwrap();
            silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            silent.read(&mut [0]).unwrap()
        });
        let listener = Bounded::new(listener, Some(Duration::from_millis(20)));
        runtime.spawn(async { axum::serve(listener, Router::new()).await });
        let read = runtime.block_on(async { tokio::task::spawn_blocking(|| client.join().unwrap()).await });
        assert_eq!(read.unwrap(), 0);
    }
}
