//! `HarmonyBatch`: types, defaults and validation. What the YAML means, for the operator and the command line alike.
//!
//! [`spec`] holds the custom resource as it is written. [`parse()`] turns a file into a [`ValidatedBatch`], the single
//! input of everything downstream, or into an [`InvalidBatch`] that names every problem with its place. The schema that
//! a file is checked against is the one that the API server gets from [`crd_yaml`], so both refuse the same files.

mod batch;
pub mod conditions;
pub mod conventions;
mod crd;
mod expansion;
pub mod limits;
mod node;
mod parse;
pub mod pod;
mod problem;
mod shape;
mod size;
pub mod spec;
pub mod status;
mod validate;

pub use batch::{BatchName, Command, Executor, PodFailureMatch, PodFailureRule, SuccessRule, Tasks, ValidatedBatch};
pub use crd::crd_yaml;
pub use parse::{parse, parse_for_cluster};
pub use problem::{FieldPath, InvalidBatch, Place, Problem};
pub use validate::{Finding, validate_for_cluster};
