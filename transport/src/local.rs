//! The private end of a link: a fresh DEALER socket and the stream that leads to it.
//!
//! The DEALER dials an abstract Unix socket that lives for this one connection. So there is no file to leave behind, no
//! listener of zeromq to unbind and, since zeromq shakes hands inside `connect`, no handshake that outlives the socket.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};

use futures_util::Stream;
use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;
use zeromq::{DealerSocket, Socket, SocketEvent, SocketOptions};

use crate::error::CloseReason;
use crate::zmtp::handshake;

/// Bytes that a private socket may hold; the system cuts it to its own limit (`net.core.wmem_max`).
const SOCKET_BUFFER: usize = 1 << 20;

/// What zeromq reads at once, in bytes: little on an idle link. With its own maximum of 64 KiB, frames of about that
/// size are copied once more.
const READ_FIRST: usize = 128;
const READ_MOST: usize = 256 << 10;
/// Small reads in a row after which it asks for less again.
const SHORT_READS: usize = 2;

pub(crate) struct Local<E> {
    pub(crate) dealer: DealerSocket,
    /// Tells when the dealer has read everything and its connection is gone.
    pub(crate) monitor: E,
    pub(crate) stream: UnixStream,
}

/// Makes a DEALER whose only peer is the returned stream, with the handshake done.
pub(crate) async fn dealer() -> Result<Local<impl Stream<Item = SocketEvent> + Unpin + Send>, CloseReason> {
    connect().await.map_err(|cause| CloseReason::Private(cause.to_string()))
}

async fn connect() -> io::Result<Local<impl Stream<Item = SocketEvent> + Unpin + Send>> {
    let name = format!("harmony-{}", Uuid::new_v4());
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;

    let mut options = SocketOptions::default();
    options.read_buffer(READ_FIRST, READ_MOST, SHORT_READS);
    let mut dealer = DealerSocket::with_options(options);
    let monitor = dealer.monitor();
    let endpoint = format!("ipc://\0{name}");
    let accepted = async {
        let mut stream = accept_own(&listener).await?;
        enlarge_buffer(&stream);
        handshake(&mut stream).await.map_err(io::Error::other)?;
        Ok(stream)
    };
    let connected = async { dealer.connect(&endpoint).await.map_err(io::Error::other) };
    let ((), stream) = tokio::try_join!(connected, accepted)?;
    Ok(Local {
        dealer,
        monitor,
        stream,
    })
}

/// Abstract sockets have no permissions: another process may have dialled this one, and is turned away.
async fn accept_own(listener: &UnixListener) -> io::Result<UnixStream> {
    let own = i32::try_from(std::process::id()).ok();
    loop {
        let (stream, _) = listener.accept().await?;
        if stream.peer_cred()?.pid() == own {
            return Ok(stream);
        }
    }
}

/// Unix sockets have small buffers by default, and then every message costs several wake-ups.
pub(crate) fn enlarge_buffer(stream: &UnixStream) {
    // A failure costs speed only.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(stream, SOCKET_BUFFER);
}
