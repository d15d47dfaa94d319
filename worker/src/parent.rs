//! Whoever started this process holds its standard input open for as long as it lives.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use harmony_transport::Endpoint;
use tokio::sync::oneshot;

/// Ends when standard input closes; never, if `watch` is false.
pub async fn orphaned(watch: bool) {
    if !watch {
        return std::future::pending().await;
    }
    let (sender, receiver) = oneshot::channel();
    // A thread, since reading standard input cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

/// The file that whoever makes a folder for sockets keeps locked in it.
pub const OWNER_FILE: &str = "owner";

/// What the name of a folder ends with while it is removed: nobody needs it, whoever finds it may go on.
pub const GONE: &str = ".gone";

/// Removes the folder of a Unix socket if its owner is gone and nobody else uses it: the last one to leave cleans up.
pub fn leave_folder(listen: &Endpoint) {
    let Endpoint::Unix(socket) = listen else {
        return;
    };
    let Some(folder) = socket.parent() else {
        return;
    };
    let owner = folder.join(OWNER_FILE);
    let Ok(file) = File::open(&owner) else {
        // Another one that left has taken the owner's file, and then found this one's socket. A folder of somebody else's
        // has something in it, and stays.
        let _ = fs::remove_dir(folder);
        return;
    };
    // Whoever started all this and still lives holds the lock, and removes the folder itself. A shared lock is enough
    // to see that, and several that leave at once do not take each other for the owner.
    if file.try_lock_shared().is_err() {
        return;
    }
    let entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    let is_socket = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_socket());
    if !entries.iter().all(|entry| is_socket(entry) || entry.path() == owner) {
        return;
    }
    // A part that was killed leaves its socket, and nobody answers there.
    if entries.iter().any(|entry| UnixStream::connect(entry.path()).is_ok()) {
        return;
    }
    remove_folder(folder);
}

/// Removes a folder for sockets. It gets another name first: a part that is just starting must put nothing into a folder that
/// is half removed, since nobody could tell then whether it is still being made.
pub fn remove_folder(folder: &Path) {
    let mut gone = folder.as_os_str().to_owned();
    gone.push(GONE);
    if fs::rename(folder, &gone).is_ok() {
        let _ = fs::remove_dir_all(&gone);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn leave(folder: &Path) {
        leave_folder(&Endpoint::Unix(folder.join("mine")));
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_one_removes_the_folder_with_the_sockets_of_the_dead() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("harmony-x");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(OWNER_FILE), "").unwrap();
        drop(UnixListener::bind(folder.join("dead")).unwrap());
        let other = UnixListener::bind(folder.join("other")).unwrap();
        leave(&folder);
        assert_eq!(names(&folder), ["dead", "other", OWNER_FILE]);
        drop(other);
        leave(&folder);
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_that_holds_something_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        for name in [OWNER_FILE, "letter"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        leave(folder.path());
        assert_eq!(names(folder.path()), ["letter", OWNER_FILE]);
    }

    #[test]
    fn a_folder_whose_owner_lives_stays() {
        let folder = tempfile::tempdir().unwrap();
        let owner = File::create(folder.path().join(OWNER_FILE)).unwrap();
        owner.lock().unwrap();
        leave(folder.path());
        assert_eq!(names(folder.path()), [OWNER_FILE]);
    }

    #[test]
    fn a_folder_without_owner_goes_only_if_it_is_empty() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("harmony-x");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        drop(UnixListener::bind(folder.join("socket")).unwrap());
        leave(&folder);
        assert_eq!(names(&folder), ["file", "socket"]);
        fs::remove_file(folder.join("file")).unwrap();
        fs::remove_file(folder.join("socket")).unwrap();
        leave(&folder);
        assert!(!folder.exists());
    }
}
