//! Task sources and the driver of the ventilator machine.

pub mod driver;
pub mod observe;
pub mod rate;
pub mod source;
mod success;

pub use success::success_policy;
