//! The thread that serves the endpoints.

use std::io;
use std::net::SocketAddr;
use std::thread;

use axum::Router;
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::address::{Socket, is_socket};
use crate::listener::IDLE_AFTER;
use crate::{Address, AdminArgs, Inspector, Snapshot, routes};

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
        address: Address,
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
    pub admin: Option<Address>,
    /// Where `/debug/state` is, with the port chosen.
    pub loopback: Option<SocketAddr>,
    _stop: oneshot::Sender<()>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(Address::Unix(path)) = &self.admin
            && is_socket(path)
        {
            // Whoever comes next removes what is left.
            let _ = std::fs::remove_file(path);
        }
    }
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
    let public = args
        .admin
        .as_ref()
        .map(|address| bind("--admin", address))
        .transpose()?;
    let public = public.map(|socket| (socket, routes::public(inspector.clone(), registry)));
    let private = args.loopback.map(|address| bind("--loopback", &Address::Tcp(address)));
    let private = private
        .transpose()?
        .map(|socket| (socket, routes::loopback(inspector, more)));
    run(public, private)
}

/// Serves other routes, on a thread of their own. `flag` is what the address was given by.
pub fn serve(flag: &'static str, address: &Address, routes: Router) -> Result<Admin, AdminError> {
    run(Some((bind(flag, address)?, routes)), None)
}

fn run(public: Option<(Socket, Router)>, private: Option<(Socket, Router)>) -> Result<Admin, AdminError> {
    let (stop, stopped) = oneshot::channel();
    let mut admin = Admin {
        admin: None,
        loopback: None,
        _stop: stop,
    };
    if public.is_none() && private.is_none() {
        return Ok(admin);
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    {
        let _inside = runtime.enter();
        if let Some((socket, routes)) = public {
            admin.admin = Some(socket.address()?);
            socket.serve(routes, Some(IDLE_AFTER))?;
        }
        if let Some((socket, routes)) = private {
            if let Address::Tcp(address) = socket.address()? {
                admin.loopback = Some(address);
            }
            // Whoever reads results there may pause for as long as they like.
            socket.serve(routes, None)?;
        }
    }
    spawn(runtime, stopped)?;
    Ok(admin)
}

pub(crate) fn spawn(runtime: Runtime, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let thread = thread::Builder::new().name("admin".to_owned());
    thread.spawn(move || wait(runtime, stopped)).map(drop)
}

fn wait(runtime: Runtime, stopped: oneshot::Receiver<()>) {
    // An error means that the sender was dropped, which is how it is stopped.
    let _ = runtime.block_on(stopped);
    runtime.shutdown_background();
}

fn bind(flag: &'static str, address: &Address) -> Result<Socket, AdminError> {
    Socket::bind(address).map_err(|source| {
        let address = address.clone();
        AdminError::Listen { flag, address, source }
    })
}
