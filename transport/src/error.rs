//! What can go wrong with the transport as a whole, and why a link ends.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint::{Endpoint, EndpointError};
use crate::zmtp::Violation;

/// A transport that cannot start, or an endpoint that it cannot listen on.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The socket thread cannot start.
    #[error("cannot start the socket thread: {0}")]
    Thread(#[source] io::Error),
    /// The socket thread has ended.
    #[error("the socket thread has ended")]
    Stopped,
    /// A certificate, key or CA file cannot be used.
    #[error("the TLS file `{}` cannot be used: {cause}", .path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The certificate files do not fit together.
    #[error("the TLS files cannot be used: {0}")]
    Tls(String),
    /// The endpoint itself is impossible.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// TCP without certificates can be reached by others.
    #[error("{endpoint} is not a loopback address: give certificate files, or allow insecure TCP explicitly")]
    Insecure {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// Another process answers on the socket.
    #[error("{endpoint} is in use by a running process: stop it, or choose another path")]
    InUse {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The system refused to listen.
    #[error("cannot listen on {endpoint}: {cause}")]
    Listen {
        /// The endpoint.
        endpoint: Endpoint,
        /// The system's answer.
        cause: io::Error,
    },
}

/// Why a link ended, or why a connection never became one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// This side asked for it.
    #[error("closed by this side")]
    Requested,
    /// The other side closed the connection.
    #[error("closed by the peer")]
    Peer,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other side was silent for too long.
    #[error("nothing heard from the peer for {0:?}")]
    Idle(Duration),
    /// The other side reads too slowly: more is queued than a link may hold.
    #[error("the peer reads too slowly: more is queued than the link may hold")]
    Overflow,
    /// This side tried to send a message that no peer would accept.
    #[error("a message of {parts} frames and {bytes} bytes cannot be sent")]
    Unsendable {
        /// Frames of the message.
        parts: usize,
        /// Bytes of the message.
        bytes: usize,
    },
    /// The other side does not keep to the wire format.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
    /// The endpoint cannot be reached.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// TCP without certificates is for loopback only.
    #[error("the address {0} is not loopback: give certificate files, or allow insecure TCP explicitly")]
    Insecure(String),
    /// A certificate was refused.
    #[error("TLS: {0}")]
    Tls(String),
    /// The handshake took too long.
    #[error("the handshake took longer than {0:?}")]
    HandshakeTimeout(Duration),
    /// Too many connections are waiting for their handshake.
    #[error("too many connections have not finished their handshake")]
    Crowded,
    /// The process has as many links as it may have.
    #[error("the limit of links is reached")]
    Full,
    /// The private side of the link failed, for lack of descriptors for example.
    #[error("the private socket failed: {0}")]
    Private(String),
}

impl CloseReason {
    /// Every [`Self::label`].
    pub const LABELS: [&str; 14] = [
        "requested",
        "peer",
        "lost",
        "idle",
        "overflow",
        "unsendable",
        "violation",
        "unreachable",
        "insecure",
        "tls",
        "handshake_timeout",
        "crowded",
        "full",
        "private",
    ];

    /// A short stable name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Peer => "peer",
            Self::Lost(_) => "lost",
            Self::Idle(_) => "idle",
            Self::Overflow => "overflow",
            Self::Unsendable { .. } => "unsendable",
            Self::Violation(_) => "violation",
            Self::Unreachable(_) => "unreachable",
            Self::Insecure(_) => "insecure",
            Self::Tls(_) => "tls",
            Self::HandshakeTimeout(_) => "handshake_timeout",
            Self::Crowded => "crowded",
            Self::Full => "full",
            Self::Private(_) => "private",
        }
    }
}

impl From<io::Error> for CloseReason {
    /// rustls hides its verdict in an `io::Error`; it is told apart from a connection that broke.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(verdict) => Self::Tls(verdict.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Peer,
            None => Self::Lost(error.to_string()),
        }
    }
}
