//! The one thread of a process that owns zeromq sockets, with a runtime of its own: sockets shared between threads have
//! locked up under churn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use harmony_protocol::ids::LinkId;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use crate::acceptor::{self, Handshakes};
use crate::buffers::Buffers;
use crate::config::Config;
use crate::counters::Tally;
use crate::dialer;
use crate::endpoint::Endpoint;
use crate::error::TransportError;
use crate::events::EventSender;
use crate::link::{Ends, Links};
use crate::listener;
use crate::tls::Tls;
use crate::watchdog;

/// Threads that resolve names, at most.
const RESOLVERS: usize = 4;

/// What all tasks of the socket thread share, and what a handle of the transport may look at.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) tls: Option<Tls>,
    pub(crate) links: Arc<Links>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) events: EventSender,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) handshakes: Handshakes,
    accepted: AtomicU64,
}

pub(crate) enum Command {
    Listen {
        endpoint: Endpoint,
        reply: oneshot::Sender<Result<(Endpoint, Option<listener::SocketFile>), TransportError>>,
    },
    Dial {
        endpoint: Endpoint,
        ends: Ends,
    },
}

impl Context {
    pub(crate) fn new(
        config: Config,
        tls: Option<Tls>,
        links: Arc<Links>,
        tally: Arc<Tally>,
        events: EventSender,
    ) -> Self {
        Self {
            config,
            tls,
            links,
            tally,
            events,
            buffers: Arc::default(),
            handshakes: Handshakes::default(),
            accepted: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_accepted(&self) -> LinkId {
        LinkId::accepted(self.accepted.fetch_add(1, Relaxed))
    }
}

/// Starts the thread; it ends when the sender of `commands` is dropped.
pub(crate) fn start(context: Context, commands: mpsc::UnboundedReceiver<Command>) -> Result<(), TransportError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(RESOLVERS)
        .thread_name("harmony-names")
        .build()
        .map_err(TransportError::Thread)?;
    let run = move || {
        runtime.block_on(serve(Arc::new(context), commands));
        // A name that is still being resolved must not hold up the end.
        runtime.shutdown_background();
    };
    std::thread::Builder::new()
        .name("harmony-links".into())
        .spawn(run)
        .map_err(TransportError::Thread)?;
    Ok(())
}

async fn serve(context: Arc<Context>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let _watchdog = watchdog::start(&context.config.watchdog);
    while let Some(command) = commands.recv().await {
        match command {
            Command::Listen { endpoint, reply } => {
                let context = Arc::clone(&context);
                tokio::spawn(async move {
                    let result = acceptor::listen(&context, &endpoint).await;
                    // If nobody waits any more, the file goes with the answer.
                    let _ = reply.send(result);
                });
            }
            Command::Dial { endpoint, ends } => {
                tokio::spawn(dialer::dial(Arc::clone(&context), endpoint, ends));
            }
        }
    }
}
