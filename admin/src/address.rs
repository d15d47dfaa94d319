//! Where endpoints are served.

use std::fmt;
use std::io;
use std::net::{AddrParseError, SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use tokio::runtime::Handle;

use crate::listener::Bounded;

/// What a Unix socket's address begins with.
const UNIX: &str = "unix:";

/// An address for endpoints: one of the network, or a Unix socket, which only those reach who may enter its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `0.0.0.0:27780`.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// The address in the network, if it is one.
    pub fn network(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.strip_prefix(UNIX) {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

/// A socket that listens.
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Socket {
    /// Listens. A Unix socket that a killed process left is replaced.
    pub(crate) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            Address::Unix(path) => {
                remove_dead(path)?;
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it is, with the port chosen.
    pub(crate) fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Self::Unix(_, path) => Address::Unix(path.clone()),
        })
    }

    /// Serves routes there, on the runtime that this is called in. Connections that stay silent for `idle_after` are closed.
    pub(crate) fn serve(self, routes: Router, idle_after: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let listener = Bounded::new(listener, idle_after);
                Handle::current().spawn(async move { axum::serve(listener, routes).await });
            }
            Self::Unix(listener, _) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                let listener = Bounded::new(listener, idle_after);
                Handle::current().spawn(async move { axum::serve(listener, routes).await });
            }
        }
        Ok(())
    }
}

/// Removes a socket that nobody serves any more. Whatever else is there stays, and makes `bind` fail.
fn remove_dead(path: &Path) -> io::Result<()> {
    if !is_socket(path) {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

pub(crate) fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sockets_of_the_dead_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let bind = |name: &str| Socket::bind(&Address::Unix(folder.path().join(name)));
        std::fs::write(folder.path().join("file"), "precious").unwrap();
        assert!(bind("file").is_err());
        assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"precious");
        let living = bind("socket").unwrap_or_else(|error| panic!("{error}"));
        assert!(bind("socket").is_err(), "somebody serves it");
        drop(living);
        assert!(bind("socket").is_ok());
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["0.0.0.0:27780", "[::1]:0", "unix:/tmp/a socket"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!("localhost:1".parse::<Address>().is_err(), "names are not looked up");
    }
}
