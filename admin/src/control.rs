//! A control socket in a folder: the loopback address of a process that belongs to one user.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::listener::{Bounded, IDLE_AFTER};
use crate::server::spawn;

/// The name of the socket in its folder.
pub const CONTROL: &str = "control";
/// Bytes that the path of a socket may have on Linux, with the zero at its end.
const PATH_BYTES: usize = 108;

/// The socket is served for as long as this lives; then its name is gone.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    _stop: oneshot::Sender<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        // Whoever comes next removes what is left.
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves routes at the control socket of a folder, on a thread of their own. What a process that was killed left there is
/// removed: the caller holds the folder's lock. Only the owner of this process, and root, are answered.
pub fn control(dir: &Path, routes: Router) -> io::Result<Control> {
    let path = dir.join(CONTROL);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        let folder = File::open(dir)?;
        UnixListener::bind(short(&path, &folder))?
    };
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let owner = fs::metadata(&path)?.uid();
    let (stop, stopped) = oneshot::channel();
    let listener = Bounded::new(Owners { listener, owner }, Some(IDLE_AFTER));
    runtime.spawn(async move { axum::serve(listener, routes).await });
    spawn(runtime, stopped)?;
    Ok(Control { path, _stop: stop })
}

/// Connects to the control socket of a folder.
pub async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let folder = File::open(dir)?;
    UnixStream::connect(short(&dir.join(CONTROL), &folder)).await
}

/// The path of the socket, or a way to it by the open folder where that path is too long for a socket.
fn short(path: &Path, folder: &File) -> PathBuf {
    if path.as_os_str().as_bytes().len() < PATH_BYTES {
        return path.to_owned();
    }
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(CONTROL)
}

/// Accepts connections of one user, and of root, alone: between the making of the socket and its permissions others may
/// have connected.
struct Owners {
    listener: UnixListener,
    owner: u32,
}

impl Listener for Owners {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, from) = Listener::accept(&mut self.listener).await;
            let user = stream.peer_cred().map(|peer| peer.uid());
            if user.is_ok_and(|user| user == self.owner || user == 0) {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(dir: &Path) -> io::Result<String> {
        let mut stream = connect(dir).await?;
        let request = "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_folder_answers_however_long_its_path_is_and_whatever_was_left_in_it() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("l".repeat(PATH_BYTES));
        fs::create_dir(&long).unwrap();
        for dir in [base.path(), long.as_path()] {
            let killed = {
                let folder = File::open(dir).unwrap();
                UnixListener::bind(short(&dir.join(CONTROL), &folder)).unwrap()
            };
            drop(killed);
            assert!(ask(dir).await.is_err(), "nobody is there any more");
            let control = control(dir, Router::new().route("/x", get(async || "here"))).unwrap();
            assert!(ask(dir).await.unwrap().ends_with("here"));
            let mode = fs::metadata(dir.join(CONTROL)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
            drop(control);
            assert!(!dir.join(CONTROL).exists());
        }
    }
}
