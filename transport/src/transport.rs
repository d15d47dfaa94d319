//! The handle of a transport.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harmony_protocol::ids::LinkId;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::counters::{Counters, Meter, Tally, locked};
use crate::endpoint::Endpoint;
use crate::error::TransportError;
use crate::events::{self, Events};
use crate::link::Links;
use crate::listener::SocketFile;
use crate::thread::{self, Command, Context};
use crate::tls::Tls;

/// All links of a process. Clones share them; dropping the last clone ends the socket thread, cuts what links are left
/// and removes the socket files. To flush, [close](Self::close) each link and wait for its `Closed` first.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    config: Config,
    links: Arc<Links>,
    tally: Arc<Tally>,
    commands: mpsc::UnboundedSender<Command>,
    /// Held here, not on the thread, so that they are gone when the drop of the last handle returns.
    files: Mutex<Vec<SocketFile>>,
}

impl Transport {
    /// Starts the socket thread. Fails if the certificate files cannot be used.
    pub fn start(config: Config) -> Result<(Self, Events), TransportError> {
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let links = Arc::<Links>::default();
        let tally = Arc::<Tally>::default();
        let (sender, events) = events::channel();
        let (commands, receiver) = mpsc::unbounded_channel();
        let context = Context::new(config.clone(), tls, Arc::clone(&links), Arc::clone(&tally), sender);
        thread::start(context, receiver)?;
        Ok((
            Self(Arc::new(Inner {
                config,
                links,
                tally,
                commands,
                files: Mutex::default(),
            })),
            events,
        ))
    }

    /// Accepts links on an endpoint for as long as the transport lives; returns the real one, with the port chosen.
    ///
    /// A Unix socket gets mode 0600, its folder is made with 0700 if absent, and a socket on which nobody answers is
    /// replaced. TCP without certificates is refused beyond loopback, unless the configuration allows it.
    pub async fn listen(&self, endpoint: &Endpoint) -> Result<Endpoint, TransportError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Listen {
            endpoint: endpoint.clone(),
            reply,
        };
        self.0.commands.send(command).map_err(|_| TransportError::Stopped)?;
        let (endpoint, file) = answer.await.map_err(|_| TransportError::Stopped)??;
        locked(&self.0.files).extend(file);
        Ok(endpoint)
    }

    /// Opens a link. The outcome is an event, `Opened` or `Closed`; names are resolved anew each time. What is sent
    /// before that waits in the link.
    pub fn dial(&self, link: LinkId, endpoint: Endpoint) {
        let ends = self.0.links.open(link);
        // If the thread has ended, so has the channel of events.
        let _ = self.0.commands.send(Command::Dial { endpoint, ends });
    }

    /// Queues a message and never waits. A link whose queue is full is closed (`Overflow`); a link that is unknown or
    /// has ended ignores it.
    pub fn send(&self, link: LinkId, frames: Vec<Bytes>) {
        self.0.links.send(link, frames, &self.0.config);
    }

    /// Sends what is queued, within [`FLUSH_WITHIN`](crate::FLUSH_WITHIN), and closes the link; `Closed` follows.
    pub fn close(&self, link: LinkId) {
        self.0.links.close(link);
    }

    /// Closes the link at once, with all that is queued in it: nobody reads at the other end. `Closed` follows.
    pub fn cut(&self, link: LinkId) {
        self.0.links.cut(link);
    }

    /// What reads that from elsewhere, and goes on when the transport has ended.
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.0.tally))
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.0.tally.snapshot()
    }
}
