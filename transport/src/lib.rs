//! Links: ZeroMQ DEALER pairs behind a frame guard, with or without mTLS.
//!
//! A [`Transport`] dials and accepts links; the driver sends by [`LinkId`](harmony_protocol::ids::LinkId) and takes
//! [`Event`]s. This is the only crate that knows zeromq. Each link has a DEALER socket of its own, and between it and the
//! peer stands a guard that lets only well-formed frames within the limits pass:
//!
//! ```text
//! driver <-> link task <-> DEALER <-> private Unix socket <-> guard <-> (TLS) <-> TCP or Unix <-> peer
//! ```
//!
//! Linux only: the private sockets are abstract ones, which leave no files behind.

mod acceptor;
mod args;
mod buffers;
mod config;
mod counters;
mod dialer;
mod endpoint;
mod error;
mod events;
mod guard;
mod link;
mod listener;
mod load;
mod local;
mod perform;
mod pipe;
mod thread;
mod tls;
mod transport;
mod watchdog;
mod zmtp;

pub use args::LinkArgs;
pub use config::*;
pub use counters::{Counters, Meter, Traffic};
pub use endpoint::{Endpoint, EndpointError, MAX_SOCKET_PATH};
pub use error::{CloseReason, TransportError};
pub use events::{Event, Events};
#[doc(hidden)]
pub use guard::guard;
pub use perform::{EVENTS_AT_ONCE, LEAVE_WITHIN, sleep_until};
pub use transport::Transport;
pub use watchdog::Watchdog;
pub use zmtp::Violation;
