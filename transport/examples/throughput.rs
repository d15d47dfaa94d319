//! Prints how fast messages pass one link between two transports of this process, over Unix sockets and TCP.
//!
//! `cargo run --release -p harmony-transport --example throughput`
#![allow(clippy::cast_precision_loss)] // figures to read, not to reckon with

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harmony_protocol::ids::LinkId;
use harmony_transport::{Config, Event, Events, Transport};

/// Bytes under way at once, as credit would allow.
const WINDOW: usize = 16 << 20;
/// Bytes of one measurement.
const TOTAL: usize = 2 << 30;
/// Messages of one measurement, at most.
const MESSAGES: usize = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // Messages go one way only, and nobody sends heartbeats here.
    let config = Config {
        idle_after: Duration::from_hours(1),
        ..Config::default()
    };
    let unix = format!("unix:{}", folder.path().join("s").display());
    for endpoint in [unix.as_str(), "tcp://127.0.0.1:0"] {
        let (server, mut received) = Transport::start(config.clone())?;
        let (client, mut events) = Transport::start(config.clone())?;
        let link = LinkId::dialled(0);
        client.dial(link, server.listen(&endpoint.parse()?).await?);
        events.recv().await;
        received.recv().await;
        for size in [100, 1 << 10, 20 << 10, 64 << 10, 1 << 20, 32 << 20] {
            received = measure(&client, link, received, size)?;
        }
    }
    Ok(())
}

/// Sends messages of three frames and waits until all have arrived.
fn measure(client: &Transport, link: LinkId, mut received: Events, size: usize) -> Result<Events, Box<dyn Error>> {
    let count = (TOTAL / size).min(MESSAGES);
    let arrived = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&arrived);
    let receiver = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async {
                while counting.load(Relaxed) < count {
                    if let Some(Event::Message { .. }) = received.recv().await {
                        counting.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        received
    });
    let message = vec![
        Bytes::from_static(b"HARMONY1"),
        Bytes::from(vec![1; 64]),
        Bytes::from(vec![2; size]),
    ];
    let window = (WINDOW / size).clamp(2, 4_096);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    for sent in 0..count {
        while sent - arrived.load(Relaxed) >= window {
            std::thread::sleep(Duration::from_micros(50));
        }
        client.send(link, message.clone());
    }
    let received = receiver.join().map_err(|_| "the receiver failed")?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let rate = count as f64 / seconds;
    println!(
        "{size:>9} bytes: {rate:>9.0} messages/s {:>6.0} MiB/s {:>6.2} CPU s per GiB",
        rate * size as f64 / f64::from(1 << 20),
        cpu / ((count * size) as f64 / f64::from(1 << 30)),
    );
    Ok(received)
}

/// CPU time of this process, all threads.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
