//! The collector: log, results and the driver of the collector machine.

pub mod log;
