//! The Harmony pattern without I/O: the wire codec of HARMONY/1 and the three state machines.
//!
//! Nothing here opens a socket, reads a clock or touches a disk. A machine takes inputs by `handle_*(now, ..)` and
//! gives outputs by `poll_output`; the clock is always an argument and randomness comes from a seed in the
//! configuration, so that a simulator can drive whole fleets on virtual time.

pub mod collector;
mod dialler;
mod durations;
pub mod ids;
pub mod limits;
pub mod mutant;
mod session;
pub mod set;
pub mod spans;
pub mod ventilator;
pub mod wire;
pub mod worker;

/// What this version is called.
pub const RELEASE: &str = if cfg!(feature = "next") {
    concat!(env!("CARGO_PKG_VERSION"), "-next")
} else {
    env!("CARGO_PKG_VERSION")
};

pub use durations::{DURATION_BOUNDS, Durations};
pub use session::{Identity, LinkOutput, VERSIONS};
