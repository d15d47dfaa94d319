//! The HTTP endpoints of every process: `/metrics`, `/healthz`, `/readyz` and, on loopback, `/debug/state`.
//!
//! All of them show one thing: a [`Snapshot`] of the process's main loop, which the loop itself gives when it is asked.
//! A loop that does not answer is stuck, and that is all that `/healthz` fails for.
//!
//! ```ignore
//! let (inspector, mut inspections) = harmony_admin::inspections();
//! let _admin = harmony_admin::start(&args, inspector, Registry::new(), Router::new())?;
//! loop {
//!     tokio::select! {
//!         // ...
//!         Some(inspection) = inspections.next() => inspection.answer(machine.snapshot()),
//!     }
//! }
//! ```

mod address;
mod args;
mod control;
mod gathered;
mod inspection;
mod links;
mod listener;
mod log;
mod metrics;
mod routes;
mod server;

pub use address::Address;
pub use args::AdminArgs;
pub use axum::Router;
pub use control::{CONTROL, Control, connect, control};
pub use gathered::Gathered;
pub use inspection::{ANSWER_WITHIN, Inspection, Inspections, Inspector, NoAnswer, inspections};
pub use links::observe_links;
pub use listener::{CONNECTIONS, IDLE_AFTER};
pub use log::routes as log_routes;
pub use metrics::{Metrics, exposition, process};
pub use prometheus::Error as MetricsError;
pub use server::{Admin, AdminError, serve, start};

/// What a process tells of itself, all at one moment. Its JSON is `/debug/state`.
pub trait Snapshot: serde::Serialize + Send + 'static {
    /// What `/metrics` shows of it, besides what the process's registry holds.
    fn observe(&self, metrics: &mut Metrics);

    /// Why the process cannot do its work right now, if so, for `/readyz`.
    fn unready(&self) -> Option<String> {
        None
    }
}
