//! Executors and the driver of the worker machine; also for Rust closures.

pub mod executor;
