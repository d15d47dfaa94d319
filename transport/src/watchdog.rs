//! Ends the process if the socket thread stands still, so that it is started again instead of hanging unseen.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use zeromq::{SocketRecv, SocketSend, ZmqMessage};

use crate::buffers::Buffers;
use crate::config::Config;
use crate::error::CloseReason;
use crate::guard::Guard;
use crate::local;

/// How often the round trip is made.
const EVERY: Duration = Duration::from_secs(2);
/// Rounds without a completed trip after which the process ends.
const MISSES: u32 = 3;
/// The exit code of a process whose socket thread stood still (`EX_SOFTWARE`).
const EXIT_CODE: i32 = 70;

/// What to do when the socket thread stands still.
#[derive(Clone)]
pub struct Watchdog {
    /// Time between two round trips.
    pub every: Duration,
    /// Missed round trips in a row after which the action is taken.
    pub misses: u32,
    /// The action; ends the process with code 70 by default.
    pub action: Arc<dyn Fn() + Send + Sync>,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            every: EVERY,
            misses: MISSES,
            action: Arc::new(|| std::process::exit(EXIT_CODE)),
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("every", &self.every)
            .field("misses", &self.misses)
            .finish_non_exhaustive()
    }
}

/// Watches until it is dropped.
pub(crate) struct Watching {
    _stop: Sender<()>,
    trips: tokio::task::JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.trips.abort();
    }
}

/// Starts round trips on the current runtime, and a thread that counts them. It counts its own wake-ups and not the
/// time, so a process that was stopped for a while gets its three chances afterwards.
pub(crate) fn start(settings: &Watchdog) -> Watching {
    let trips_done = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = channel();
    let trips = tokio::spawn(make_trips(settings.every, Arc::clone(&trips_done)));
    let Watchdog { every, misses, action } = settings.clone();
    let watch = move || {
        let mut missed = 0;
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            missed = if trips_done.swap(0, Relaxed) > 0 { 0 } else { missed + 1 };
            if missed >= misses {
                tracing::error!(?every, misses, "the socket thread stands still");
                action();
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("harmony-watchdog".into()).spawn(watch) {
        tracing::error!(%error, "no watchdog: cannot start its thread");
    }
    Watching { _stop: stop, trips }
}

/// Makes a round trip twice per period; a failed one is told and counts as missed.
async fn make_trips(every: Duration, trips_done: Arc<AtomicU64>) {
    let mut pause = tokio::time::interval(every / 2);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let error = match round_trips(&mut pause, &trips_done).await {
            Ok(()) => "the loop ended".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error, "the watchdog's round trip failed");
        pause.tick().await;
    }
}

/// There and back between two sockets with a guard between them, as in a link.
async fn round_trips(pause: &mut tokio::time::Interval, trips_done: &AtomicU64) -> Result<(), CloseReason> {
    let (mut here, mut there) = (local::dealer().await?, local::dealer().await?);
    let config = Config {
        idle_after: Duration::MAX,
        ..Config::default()
    };
    let guard = Guard::new(
        Box::new(there.stream),
        here.stream,
        &config,
        Arc::<Buffers>::default(),
        Arc::default(),
    );
    let _guard = crate::link::AbortOnDrop(tokio::spawn(guard.run()));
    let failed = |error: zeromq::ZmqError| CloseReason::Private(error.to_string());
    loop {
        pause.tick().await;
        here.dealer
            .send(ZmqMessage::from(Bytes::from_static(b"ping")))
            .await
            .map_err(failed)?;
        let ping = there.dealer.recv().await.map_err(failed)?;
        there.dealer.send(ping).await.map_err(failed)?;
        here.dealer.recv().await.map_err(failed)?;
        trips_done.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Runs a watched thread that goes on for five rounds and then stands still; tells how often the watchdog had acted
    /// before that, and whether it acts at last.
    #[test]
    fn acts_when_the_thread_stands_still_and_not_before() {
        let (acted, actions) = channel();
        let settings = Watchdog {
            every: Duration::from_millis(500),
            misses: MISSES,
            action: Arc::new(move || acted.send(()).unwrap()),
        };
        let (standing, stands) = channel();
        let (release, released) = channel::<()>();
        let watched = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let watching = start(&settings);
                tokio::time::sleep(settings.every * 5).await;
                standing.send(()).unwrap();
                let _ = released.recv_timeout(DEADLINE);
                drop(watching);
            });
        });
        stands.recv_timeout(DEADLINE).unwrap();
        assert!(actions.try_recv().is_err(), "acted although the thread went on");
        actions.recv_timeout(DEADLINE).expect("did not act");
        release.send(()).unwrap();
        watched.join().unwrap();
    }
}
