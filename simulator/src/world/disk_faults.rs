//! What goes wrong with the collector's disk.

use std::io::ErrorKind;
use std::time::Duration;

use fastrand::Rng;
use harmony_log::fault;

use super::{Event, World};
use crate::dice::evenly;
use crate::faults::Fault;
use crate::observation::Observation;

/// The most bytes that a full disk may still take.
const ROOM: u64 = 16 << 10;
/// An append that fails has written so many bytes at most.
const TORN: usize = 4 << 10;

impl World {
    /// False if there is nothing to strike.
    pub(super) fn strike_disk(&mut self, fault: Fault, random: &mut Rng) -> bool {
        let written = random.usize(0..TORN);
        match fault {
            Fault::DiskFull => {
                let room = random.u64(0..=ROOM);
                self.disk.fill(Some(room));
                let time = evenly(random, Duration::from_millis(100), Duration::from_secs(10));
                self.push(self.at + time, Event::DiskRoom);
                self.trace
                    .note(self.at, format_args!("the disk has room for {room} bytes"));
            }
            Fault::DiskError => {
                let kind = ErrorKind::Other;
                // Few calls from now, so that it meets the process that runs.
                let calls = random.u64(0..10);
                self.disk.fail_after(calls, fault::Fault::Error { kind, written });
                self.trace
                    .note(self.at, format_args!("the disk will fail after {calls} calls"));
            }
            Fault::DiskCrash => {
                // Opening a log takes some 20 calls, and more with many segments.
                let calls = random.u64(0..60);
                self.disk.fail_after(calls, fault::Fault::Crash { written });
                self.trace.note(
                    self.at,
                    format_args!("the collector will die after {calls} calls of its disk"),
                );
            }
            _ => {
                let Some(path) = self.disk.flip(random) else {
                    return false;
                };
                self.trace
                    .note(self.at, format_args!("a bit of {} flips", path.display()));
            }
        }
        self.observe(&Observation::Struck(fault));
        true
    }
}
