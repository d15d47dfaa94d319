//! How the endpoints ask the main loop of a process for a snapshot.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A main loop that does not answer for this long is stuck: its turns take milliseconds.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Questions that wait for the loop; further ones wait outside.
const WAITING: usize = 8;

/// Makes the two ends: one that asks, and one that the main loop polls.
pub fn inspections<S>() -> (Inspector<S>, Inspections<S>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Inspector(sender), Inspections(receiver))
}

/// Asks a main loop. Clones ask the same one.
#[derive(Debug)]
pub struct Inspector<S>(mpsc::Sender<oneshot::Sender<S>>);

/// The questions that a main loop is asked.
#[derive(Debug)]
pub struct Inspections<S>(mpsc::Receiver<oneshot::Sender<S>>);

/// One question.
#[derive(Debug)]
pub struct Inspection<S>(oneshot::Sender<S>);

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The loop is stuck.
    #[error("the main loop has not answered for {} s", ANSWER_WITHIN.as_secs())]
    Stuck,
    /// The loop is over: the process is about to end.
    #[error("the main loop has ended")]
    Ended,
}

impl<S> Inspector<S> {
    /// Asks, and waits no longer than [`ANSWER_WITHIN`].
    pub async fn ask(&self) -> Result<S, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.0.send(reply).await.map_err(|_| NoAnswer::Ended)?;
            answer.await.map_err(|_| NoAnswer::Ended)
        };
        timeout(ANSWER_WITHIN, asked).await.unwrap_or(Err(NoAnswer::Stuck))
    }
}

impl<S> Clone for Inspector<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Inspections<S> {
    /// The next question; none once nobody can ask any more. Cancel safe.
    pub async fn next(&mut self) -> Option<Inspection<S>> {
        self.0.recv().await.map(Inspection)
    }
}

impl<S> Inspection<S> {
    /// Answers it.
    pub fn answer(self, snapshot: S) {
        // Whoever asked may have gone.
        let _ = self.0.send(snapshot);
    }
}
