//! The collector: results and the driver of the collector machine.

mod driver;
pub mod export;
mod limit;
mod number;
mod observe;
mod results;

pub use driver::{CollectorConfig, CollectorError, log_dir, open_log, run};
pub use limit::LogLimit;
pub use number::{Recorded, RecordedOutcome, recorded};
