//! What the drivers of all machines share: carrying out outputs, sleeping until a timer, leaving.

use std::time::{Duration, Instant};

use harmony_protocol::LinkOutput;
use harmony_protocol::ids::LinkId;

use crate::{Endpoint, EndpointError, Event, Events, Transport};

/// Events that a driver takes in before it looks for outputs, so that neither side starves.
pub const EVENTS_AT_ONCE: usize = 256;
/// How long the links of a party that leaves get to carry its last messages out.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Sleeps until a machine's timer is due, or for ever if there is none.
pub async fn sleep_until(timer: Option<Instant>) {
    match timer {
        Some(timer) => tokio::time::sleep_until(timer.into()).await,
        None => std::future::pending().await,
    }
}

impl Transport {
    /// Carries out one output of a machine. A dial whose endpoint cannot be read is given back with the reason: the
    /// machine is to hear that the link is closed.
    pub fn perform(&self, output: LinkOutput) -> Result<(), (LinkId, EndpointError)> {
        match output {
            LinkOutput::Dial { link, endpoint } => {
                let endpoint: Endpoint = endpoint.parse().map_err(|error| (link, error))?;
                self.dial(link, endpoint);
            }
            LinkOutput::Send { link, frames } => self.send(link, frames),
            LinkOutput::Close { link } => self.close(link),
            LinkOutput::Cut { link } => self.cut(link),
        }
        Ok(())
    }

    /// Waits until the links that a leaving party has closed have sent what was queued.
    pub async fn wait_closed(&self, events: &mut Events) {
        let deadline = tokio::time::Instant::now() + LEAVE_WITHIN;
        while self.counters().links > 0 {
            match tokio::time::timeout_at(deadline, events.recv()).await {
                Ok(Some(Event::Closed { .. } | Event::Opened { .. } | Event::Message { .. })) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}
