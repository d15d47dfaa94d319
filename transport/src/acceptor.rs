//! Accepts connections, lets each prove itself within limits, and makes links of those that do.

use std::future::{pending, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::config::{CROWDED_AFTER, HANDSHAKE_WITHIN, MAX_HANDSHAKES};
use crate::endpoint::Endpoint;
use crate::error::{CloseReason, TransportError};
use crate::guard::Stream;
use crate::link;
use crate::listener::{self, Listener, SocketFile};
use crate::local::enlarge_buffer;
use crate::thread::Context;
use crate::zmtp;

/// First and longest pause after a failure to accept, of which running out of descriptors is the usual one.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// How often a connection that has outlived [`CROWDED_AFTER`] looks whether others wait.
const CROWDED_CHECK: Duration = Duration::from_millis(100);

/// Room for connections that have not proved themselves, over all listeners.
pub(crate) struct Handshakes(Arc<Semaphore>);

impl Default for Handshakes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_HANDSHAKES)))
    }
}

impl Handshakes {
    async fn slot(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.0).acquire_owned().await {
            Ok(slot) => slot,
            // Nobody closes the semaphore.
            Err(_) => pending().await,
        }
    }

    /// Ends when the caller has had its time and no slot is free: a burst of honest peers is served in turn, while
    /// silent ones give way.
    async fn crowded(&self) {
        sleep(CROWDED_AFTER).await;
        while self.0.available_permits() > 0 {
            sleep(CROWDED_CHECK).await;
        }
    }
}

type Accepted = Result<(Box<dyn Stream>, Option<String>), CloseReason>;

/// Starts to accept on an endpoint.
pub(crate) async fn listen(
    context: &Arc<Context>,
    endpoint: &Endpoint,
) -> Result<(Endpoint, Option<SocketFile>), TransportError> {
    let (listener, real, file) = listener::bind(endpoint, &context.config).await?;
    tokio::spawn(accept(Arc::clone(context), listener));
    Ok((real, file))
}

async fn accept(context: Arc<Context>, listener: Listener) {
    let mut pause = PAUSE_FIRST;
    loop {
        let slot = context.handshakes.slot().await;
        let accepted = match &listener {
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                enlarge_buffer(&stream);
                spawn(&context, slot, ready(Ok((Box::new(stream) as Box<dyn Stream>, None))));
            }),
            Listener::Tcp(listener) => {
                let tcp = |(stream, _)| spawn(&context, slot, tcp(Arc::clone(&context), stream));
                listener.accept().await.map(tcp)
            }
        };
        match accepted {
            Ok(()) => pause = PAUSE_FIRST,
            Err(error) => {
                context.tally.accept_error();
                tracing::warn!(%error, "cannot accept a connection");
                if !is_peers_fault(&error) {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MOST);
                }
            }
        }
    }
}

fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

async fn tcp(context: Arc<Context>, stream: TcpStream) -> Accepted {
    stream.set_nodelay(true)?;
    match &context.tls {
        Some(tls) => {
            let (stream, peer) = tls.accept(stream).await?;
            Ok((Box::new(stream), peer))
        }
        None => Ok((Box::new(stream), None)),
    }
}

fn spawn(
    context: &Arc<Context>,
    slot: OwnedSemaphorePermit,
    connection: impl Future<Output = Accepted> + Send + 'static,
) {
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let proved = prove(&context, connection).await;
        drop(slot);
        match proved {
            Ok((stream, peer)) => {
                let ends = context.links.open(context.next_accepted());
                link::run(context, stream, peer, ends).await;
            }
            Err(reason) => {
                tracing::debug!(%reason, "connection refused");
                context.tally.refused(&reason);
            }
        }
    });
}

/// Lets a connection finish TLS and the ZMTP handshake, in time.
async fn prove(context: &Context, connection: impl Future<Output = Accepted>) -> Accepted {
    if context.links.len() >= context.config.max_links {
        return Err(CloseReason::Full);
    }
    let handshake = async {
        let (mut stream, peer) = connection.await?;
        zmtp::handshake(&mut stream).await?;
        Ok((stream, peer))
    };
    tokio::select! {
        proved = timeout(HANDSHAKE_WITHIN, handshake) => {
            proved.unwrap_or(Err(CloseReason::HandshakeTimeout(HANDSHAKE_WITHIN)))
        }
        () = context.handshakes.crowded() => Err(CloseReason::Crowded),
    }
}
