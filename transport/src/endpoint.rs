//! Where a party listens: a Unix socket or a TCP port.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path of a Unix socket in bytes: `sun_path` holds 108 with its closing zero.
pub const MAX_SOCKET_PATH: usize = 107;

/// The address of a party, written `unix:/path` or `tcp://host:port`, IPv6 addresses in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an address, IPv6 without its brackets.
        host: String,
        /// The port; 0 lets the system choose one when listening.
        port: u16,
    },
}

/// A text that is no endpoint, or an endpoint that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither of the two forms.
    #[error("`{text}` is no endpoint ({why}): write unix:/path or tcp://host:port, IPv6 addresses in brackets")]
    Syntax {
        /// What was found.
        text: String,
        /// The part that is wrong.
        why: &'static str,
    },
    /// Unix socket paths have a fixed small limit.
    #[error(
        "the socket path `{}` has {} bytes, at most {MAX_SOCKET_PATH} are possible: choose a folder with a shorter path",
        .0.display(), .0.as_os_str().len()
    )]
    PathTooLong(PathBuf),
}

impl Endpoint {
    /// A Unix endpoint; fails if the path is too long for a socket.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        check_path(&path)?;
        Ok(Self::Unix(path))
    }
}

/// Fails if `path` is too long for a Unix socket.
pub(crate) fn check_path(path: &Path) -> Result<(), EndpointError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(EndpointError::PathTooLong(path.to_owned()));
    }
    Ok(())
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = |why| EndpointError::Syntax {
            text: text.to_owned(),
            why,
        };
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err(wrong("the path is empty or holds a zero byte"));
            }
            return Self::unix(path);
        }
        let address = text
            .strip_prefix("tcp://")
            .ok_or_else(|| wrong("it starts with neither unix: nor tcp://"))?;
        let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
        let port = port
            .parse()
            .map_err(|_| wrong("the port is not a number from 0 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) if inner.contains(':') => inner,
            Some(_) => return Err(wrong("brackets are for IPv6 addresses")),
            None if host.contains([':', '[', ']']) => return Err(wrong("an IPv6 address needs brackets")),
            None => host,
        };
        if host.is_empty() || host.contains(['/', ' ', '\0']) {
            return Err(wrong("the host is not a name or an address"));
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "unix:/run/a.sock",
            "unix:relative",
            "tcp://host:1",
            "tcp://10.0.0.1:65535",
            "tcp://[::1]:0",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_endpoint_and_names_it() {
        for text in [
            "",
            "unix:",
            "tcp://",
            "tcp://host",
            "tcp://host:",
            "tcp://host:65536",
            "tcp://::1:5",
            "tcp://[host]:5",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn refuses_a_path_that_no_socket_can_have() {
        let longest = format!("unix:/{}", "x".repeat(MAX_SOCKET_PATH - 1));
        assert!(longest.parse::<Endpoint>().is_ok());
        let error = format!("{longest}x").parse::<Endpoint>().unwrap_err();
        assert!(error.to_string().contains("108 bytes, at most 107"), "{error}");
    }
}
