//! The log of a batch, on a disk in memory and on a real one.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

#[path = "log/crash.rs"]
mod crash;
#[path = "log/damage.rs"]
mod damage;
#[path = "log/header.rs"]
mod header;
#[path = "log/model.rs"]
mod model;
#[path = "log/outputs.rs"]
mod outputs;
#[path = "log/room.rs"]
mod room;
#[path = "log/round_trip.rs"]
mod round_trip;
