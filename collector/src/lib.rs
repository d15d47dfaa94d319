//! The collector: log, results and the driver of the collector machine.

mod driver;
pub mod export;
pub mod log;
pub mod read_back;
mod replay;

pub use driver::{CollectorConfig, CollectorError, log_dir, open_log, run};
pub use replay::Rebuild;
