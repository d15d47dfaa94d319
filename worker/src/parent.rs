//! Whoever started this process holds its standard input open for as long as it lives.

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

/// Removes the folder of a Unix socket if its owner is gone and nobody else uses it: the last one to leave cleans up.
pub fn leave_folder(listen: &Endpoint) {
    let Endpoint::Unix(socket) = listen else {
        return;
    };
    let Some(folder) = socket.parent() else {
        return;
    };
    let owner = folder.join(OWNER_FILE);
    let Ok(file) = std::fs::File::open(&owner) else {
        return;
    };
    // Whoever started all this and still lives holds the lock, and removes the folder itself. A shared lock is enough
    // to see that, and several that leave at once do not take each other for the owner.
    if file.try_lock_shared().is_err() {
        return;
    }
    let others = std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| entry.path() != owner));
    if !others {
        let _ = std::fs::remove_file(&owner);
        let _ = std::fs::remove_dir(folder);
    }
}
