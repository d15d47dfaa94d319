//! Batches on a cluster, seen from outside.

mod access;
mod lines;
pub(crate) mod results;
pub(crate) mod submit;
pub(crate) mod tunnel;
mod verdict;
mod watch;

pub(crate) use access::{Cluster, KubeArgs, block_on, explain, missing_right};
pub(crate) use watch::{Sight, watch};
