//! Settings of a transport and the limits it keeps.

use std::path::PathBuf;
use std::time::Duration;

use harmony_protocol::limits;

use crate::watchdog::Watchdog;

/// Frames of one message: HARMONY/1 needs 3, the rest is room for later versions.
pub const MAX_PARTS: usize = 16;
/// A new connection must have finished TLS and the ZMTP handshake within this time.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(2);
/// Resolving a name and connecting to it may take this long.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A link that hears nothing for this long is closed: three times the silence after which a peer counts as dead.
pub const IDLE_AFTER: Duration = Duration::from_secs(15);
/// A link that is closed by this side may take this long to send what is queued.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// After the last byte was sent, the peer gets this long to read it and to close.
pub const LINGER: Duration = Duration::from_secs(1);
/// Connections in their handshake at once, so that silent ones cannot fill the process.
pub const MAX_HANDSHAKES: usize = 64;
/// Once that many are waiting, one that needs longer than this makes room for the next.
pub const CROWDED_AFTER: Duration = Duration::from_millis(500);
/// Messages queued in one link: far below the 100,000 at which a zeromq socket stops to take more.
pub const MAX_QUEUED_MESSAGES: usize = 16_384;
/// Events that wait for the driver. When it is slow the links stop reading.
pub const MAX_EVENTS: usize = 1_024;
/// Bytes of received messages that wait for the driver, all links together.
pub const MAX_EVENT_BYTES: usize = 2 * limits::MAX_MESSAGE;

/// Settings of a transport. `Config::default()` has the limits of the protocol and no certificates.
#[derive(Clone, Debug)]
pub struct Config {
    /// Allows TCP without certificates beyond loopback. Whoever reaches the port can then run and read everything.
    pub insecure_tcp: bool,
    /// Certificate files; with them TCP always means TLS with certificates on both sides.
    pub tls: Option<TlsFiles>,
    /// Links at once, dialled and accepted together.
    pub max_links: usize,
    /// Bytes in the frames of one message.
    pub max_message: usize,
    /// Bytes that one link may hold until its peer reads them; beyond that the link is closed.
    pub max_queued_bytes: usize,
    /// Silence after which a link is closed.
    pub idle_after: Duration,
    /// What ends the process when the socket thread stands still.
    pub watchdog: Watchdog,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure_tcp: false,
            tls: None,
            max_links: limits::MAX_LINKS,
            max_message: limits::MAX_MESSAGE,
            max_queued_bytes: limits::LINK_BYTES,
            idle_after: IDLE_AFTER,
            watchdog: Watchdog::default(),
        }
    }
}

/// Certificate files in PEM, and the names that the other side must have.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authority that signed the certificates of all parties.
    pub ca: PathBuf,
    /// This party's certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The name (SAN) that a dialled server must have; the host of its endpoint if absent.
    pub peer_name: Option<String>,
    /// The names (SAN) of which an accepted client must have one; any certificate of the authority if absent.
    pub allowed_clients: Option<Vec<String>>,
}
