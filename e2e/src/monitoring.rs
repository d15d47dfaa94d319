//! What watches Harmony: the kinds of the Prometheus operator, a Prometheus that does what that operator would have it do,
//! and the queries of the dashboards.

#![allow(clippy::indexing_slicing)] // a JSON value gives null for what is not there

mod dashboards;
mod operator;
mod picture;
mod prometheus;

pub use dashboards::{Query, queries};
pub use operator::{configuration, install_monitoring, rules, uninstall_monitoring};
pub use picture::{Graph, draw};
pub use prometheus::{Prometheus, Series};
