//! The operator: reconciles `HarmonyBatch` resources and is the ventilator of each.
//!
//! `run` is the life of the process, `controller` the watches. A pass over one batch is in [`reconcile`], which decides
//! by [`fleet`] what becomes of worker pods, and leads the batch's ventilator in [`ventilators`].

pub mod args;
mod context;
mod controller;
mod explain;
pub mod fleet;
mod leader;
mod metrics;
mod queue;
pub mod reconcile;
mod requests;
mod run;
mod statuses;
pub mod ventilators;

pub use run::main;
