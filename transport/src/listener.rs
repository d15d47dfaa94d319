//! Listening sockets: Unix with its file, TCP with its policy.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, lookup_host};

use crate::config::Config;
use crate::endpoint::{Endpoint, check_path};
use crate::error::TransportError;

/// A listening socket and its real address.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The file of a Unix socket, removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the socket file");
        }
    }
}

pub(crate) async fn bind(
    endpoint: &Endpoint,
    config: &Config,
) -> Result<(Listener, Endpoint, Option<SocketFile>), TransportError> {
    match endpoint {
        Endpoint::Unix(path) => {
            check_path(path)?;
            let listener = bind_unix(endpoint, path)?;
            Ok((
                Listener::Unix(listener),
                endpoint.clone(),
                Some(SocketFile(path.clone())),
            ))
        }
        Endpoint::Tcp { host, port } => {
            let listen = |cause| TransportError::Listen {
                endpoint: endpoint.clone(),
                cause,
            };
            let addresses: Vec<SocketAddr> = lookup_host((host.as_str(), *port)).await.map_err(listen)?.collect();
            let reachable = !addresses.iter().all(|address| address.ip().is_loopback());
            if reachable && config.tls.is_none() && !config.insecure_tcp {
                return Err(TransportError::Insecure {
                    endpoint: endpoint.clone(),
                });
            }
            let listener = TcpListener::bind(addresses.as_slice()).await.map_err(listen)?;
            let port = listener.local_addr().map_err(listen)?.port();
            Ok((
                Listener::Tcp(listener),
                Endpoint::Tcp {
                    host: host.clone(),
                    port,
                },
                None,
            ))
        }
    }
}

/// The folder must be there: one that was swept away is not to be made again by a process that was just starting.
fn bind_unix(endpoint: &Endpoint, path: &Path) -> Result<UnixListener, TransportError> {
    let listen = |cause| TransportError::Listen {
        endpoint: endpoint.clone(),
        cause,
    };
    if is_socket(path) {
        match StdStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(listen)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => {
                return Err(TransportError::InUse {
                    endpoint: endpoint.clone(),
                });
            }
        }
    }
    let listener = UnixListener::bind(path).map_err(listen)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(listen)?;
    Ok(listener)
}

/// Only a socket is ever removed; any other file makes `bind` fail.
fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}
