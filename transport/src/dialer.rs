//! Opens links to other parties.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::config::{CONNECT_WITHIN, HANDSHAKE_WITHIN};
use crate::endpoint::{Endpoint, check_path};
use crate::error::CloseReason;
use crate::guard::Stream;
use crate::link::{self, Ends};
use crate::local::enlarge_buffer;
use crate::thread::Context;
use crate::zmtp;

type Dialled = Result<(Box<dyn Stream>, Option<String>), CloseReason>;

/// Dials and, if that succeeds, runs the link to its end.
pub(crate) async fn dial(context: Arc<Context>, endpoint: Endpoint, mut ends: Ends) {
    let dialled = if context.links.len() > context.config.max_links {
        Err(CloseReason::Full)
    } else {
        tokio::select! {
            dialled = connect(&context, &endpoint) => dialled,
            reason = ends.ended() => Err(reason),
        }
    };
    match dialled {
        Ok((stream, peer)) => link::run(context, stream, peer, ends).await,
        Err(reason) => link::finish(&context, ends.link, reason, false).await,
    }
}

async fn connect(context: &Context, endpoint: &Endpoint) -> Dialled {
    let unreachable = |cause: &dyn std::fmt::Display| CloseReason::Unreachable(format!("{endpoint}: {cause}"));
    let late = unreachable(&format!("no answer within {CONNECT_WITHIN:?}"));
    match endpoint {
        Endpoint::Unix(path) => {
            check_path(path).map_err(|error| unreachable(&error))?;
            let connecting = async { UnixStream::connect(path).await.map_err(|error| unreachable(&error)) };
            let stream = within(CONNECT_WITHIN, late, connecting).await?;
            enlarge_buffer(&stream);
            shake_hands(async { Ok((Box::new(stream) as Box<dyn Stream>, None)) }).await
        }
        Endpoint::Tcp { host, port } => {
            let stream = within(CONNECT_WITHIN, late, connect_tcp(context, host, *port, unreachable)).await?;
            stream.set_nodelay(true)?;
            shake_hands(async {
                let Some(tls) = &context.tls else {
                    return Ok((Box::new(stream) as Box<dyn Stream>, None));
                };
                let (stream, peer) = tls.connect(stream, host).await?;
                Ok((Box::new(stream) as Box<dyn Stream>, peer))
            })
            .await
        }
    }
}

/// Tries the addresses of a name in turn.
async fn connect_tcp(
    context: &Context,
    host: &str,
    port: u16,
    unreachable: impl Fn(&dyn std::fmt::Display) -> CloseReason,
) -> Result<TcpStream, CloseReason> {
    let addresses = lookup_host((host, port)).await.map_err(|error| unreachable(&error))?;
    let mut reason = unreachable(&"the name has no address");
    for address in addresses {
        if !may_dial(context, address) {
            reason = CloseReason::Insecure(address.to_string());
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = unreachable(&error),
        }
    }
    Err(reason)
}

fn may_dial(context: &Context, address: SocketAddr) -> bool {
    context.tls.is_some() || context.config.insecure_tcp || address.ip().is_loopback()
}

async fn shake_hands(connection: impl Future<Output = Dialled>) -> Dialled {
    within(
        HANDSHAKE_WITHIN,
        CloseReason::HandshakeTimeout(HANDSHAKE_WITHIN),
        async {
            let (mut stream, peer) = connection.await?;
            zmtp::handshake(&mut stream).await?;
            Ok((stream, peer))
        },
    )
    .await
}

async fn within<T>(
    limit: Duration,
    late: CloseReason,
    step: impl Future<Output = Result<T, CloseReason>>,
) -> Result<T, CloseReason> {
    timeout(limit, step).await.unwrap_or(Err(late))
}
