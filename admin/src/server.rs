//! The thread that serves the endpoints.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use axum::Router;
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::listener::{Bounded, IDLE_AFTER};
use crate::{AdminArgs, Inspector, Snapshot, routes};

/// Why the endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It would be open to everybody.
    #[error("--loopback {0} is not a loopback address: what it serves is not for everybody; use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The address cannot be used.
    #[error("{flag} {address} cannot be listened on: {source}")]
    Listen {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system refused something basic.
    #[error("the endpoints cannot be served: {0}")]
    System(#[from] io::Error),
}

/// The endpoints are served for as long as this lives.
#[derive(Debug)]
pub struct Admin {
    /// Where `/metrics`, `/healthz` and `/readyz` are, with the port chosen.
    pub admin: Option<SocketAddr>,
    /// Where `/debug/state` is, with the port chosen.
    pub loopback: Option<SocketAddr>,
    _stop: oneshot::Sender<()>,
}

/// Serves the endpoints, on a thread of their own: neither can a slow reader hold the main loop, nor a stuck loop the
/// endpoints. `registry` has what is counted as it happens, `more` are further routes of the loopback address.
pub fn start<S: Snapshot>(
    args: &AdminArgs,
    inspector: Inspector<S>,
    registry: Registry,
    more: Router,
) -> Result<Admin, AdminError> {
    if let Some(address) = args.loopback.filter(|address| !address.ip().is_loopback()) {
        return Err(AdminError::NotLoopback(address));
    }
    let admin = args.admin.map(|address| bind("--admin", address)).transpose()?;
    let loopback = args.loopback.map(|address| bind("--loopback", address)).transpose()?;
    let (stop, stopped) = oneshot::channel();
    if admin.is_none() && loopback.is_none() {
        return Ok(Admin {
            admin: None,
            loopback: None,
            _stop: stop,
        });
    }
    let admin_at = admin.as_ref().map(TcpListener::local_addr).transpose()?;
    let loopback_at = loopback.as_ref().map(TcpListener::local_addr).transpose()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let public = routes::public(inspector.clone(), registry);
    let private = routes::loopback(inspector, more);
    {
        let _inside = runtime.enter();
        // Whoever reads results there may pause for as long as they like.
        let served = [(admin, public, Some(IDLE_AFTER)), (loopback, private, None)];
        for (listener, routes, idle_after) in served {
            let Some(listener) = listener else { continue };
            let listener = Bounded::new(tokio::net::TcpListener::from_std(listener)?, idle_after);
            runtime.spawn(async move { axum::serve(listener, routes).await });
        }
    }
    spawn(runtime, stopped)?;
    Ok(Admin {
        admin: admin_at,
        loopback: loopback_at,
        _stop: stop,
    })
}

pub(crate) fn spawn(runtime: Runtime, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let thread = thread::Builder::new().name("admin".to_owned());
    thread.spawn(move || serve(runtime, stopped)).map(drop)
}

fn serve(runtime: Runtime, stopped: oneshot::Receiver<()>) {
    // An error means that the sender was dropped, which is how it is stopped.
    let _ = runtime.block_on(stopped);
    runtime.shutdown_background();
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, AdminError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| AdminError::Listen { flag, address, source })
}
