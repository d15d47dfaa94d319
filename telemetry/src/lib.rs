//! The logs and traces of Harmony's programs: one set-up, one vocabulary.
//!
//! Lines go to standard error, as JSON or for people. Fields have fixed names, on an event or on a span around it:
//!
//! | field | what |
//! |---|---|
//! | `batch` | `namespace/name`, or the name alone where there are no namespaces |
//! | `trace_id` | the batch's uid without hyphens |
//! | `epoch` | of the ventilator |
//! | `number`, `attempt` | of a task |
//! | `worker` | the worker's name |
//! | `link`, `reason`, `error` | what happened to whom |
//!
//! No line is written per task at level info: a million tasks must not write a million lines.

mod args;
mod batch;
mod directives;
mod format;
mod limit;
mod setup;
pub mod spans;

pub use args::{FILTER_VARIABLE, FORMAT_VARIABLE, LogArgs, LogFormat};
pub use directives::{BadFilter, Directives};
pub use limit::suppressed;
pub use setup::{FilterError, Telemetry, filter, flags, init, set_filter};
