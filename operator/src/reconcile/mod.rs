//! Reconciles a batch, a step per file: dereference, validate, build, apply, update the status.

pub mod build;
pub mod dereference;
mod template;
pub mod validate;
