//! What can go wrong.

use std::fmt;

use clap::ValueEnum;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// A ventilator dies.
    KillVentilator,
    /// The collector dies; what was not synced may be lost.
    KillCollector,
    /// The collector dies and its disk is lost.
    LoseDisk,
    /// A worker dies.
    KillWorker,
    /// A link is cut, and both sides hear of it.
    Cut,
    /// A link is cut, and at least one side does not hear of it.
    HalfCut,
    /// A link swallows everything in one direction.
    Clog,
    /// Links stall one by one; what waits on them arrives later, in order, link by link in another order.
    Swizzle,
    /// Two processes cannot reach each other for a while; their links are cut and dials are refused.
    Part,
    /// Nothing from one process to another arrives for a while, and neither is told.
    OneWay,
    /// Nothing between two processes arrives for a while, and neither is told.
    Blackout,
    /// Nothing to or from one process, or only one of both, arrives for a while.
    Isolate,
    /// Nothing between one half of the processes and the other arrives for a while.
    Split,
    /// A process is not scheduled for a while.
    Pause,
    /// A process dies between two things that it does.
    Crash,
    /// A worker is asked to leave.
    Drain,
    /// The disk of the collector has little or no room for a while.
    DiskFull,
    /// A call of the collector's disk fails.
    DiskError,
    /// The collector dies in a call of its disk.
    DiskCrash,
    /// A bit of the collector's log flips.
    BitFlip,
    /// A ventilator is to send a worker nothing new for a while.
    Spare,
}

/// All faults.
pub const FAULTS: [Fault; 21] = [
    Fault::KillVentilator,
    Fault::KillCollector,
    Fault::LoseDisk,
    Fault::KillWorker,
    Fault::Cut,
    Fault::HalfCut,
    Fault::Clog,
    Fault::Swizzle,
    Fault::Part,
    Fault::OneWay,
    Fault::Blackout,
    Fault::Isolate,
    Fault::Split,
    Fault::Pause,
    Fault::Crash,
    Fault::Drain,
    Fault::DiskFull,
    Fault::DiskError,
    Fault::DiskCrash,
    Fault::BitFlip,
    Fault::Spare,
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value().map(|value| value.get_name().to_owned());
        f.pad(&name.unwrap_or_default())
    }
}
