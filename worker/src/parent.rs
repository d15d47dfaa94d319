//! Whoever started this process holds its standard input open for as long as it lives.

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
