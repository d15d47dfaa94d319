//! What the end-to-end tests share: a client, a namespace for each test, waiting for conditions, and what to show when
//! one fails.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use k8s_openapi::api::core::v1::Pod;
//!
//! harmony_e2e::scenario(async |test| {
//!     test.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: lines}\ndata: {text: one}").await?;
//!     test.wait_for("pod a to run", Duration::from_secs(30), "a", |pod: &Pod| {
//!         let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
//!         (phase == Some("Running")).then_some(()).ok_or_else(|| anyhow::anyhow!("phase {phase:?}"))
//!     })
//!     .await
//! })
//! .await
//! # }
//! ```

mod batch;
mod counter;
mod course;
mod disk;
mod dump;
mod forward;
mod killer;
mod kubectl;
mod local;
mod metrics;
mod monitoring;
mod operator;
mod pod;
mod release;
mod scenario;
mod scrape;
mod volumes;
mod wait;
mod web;

pub use batch::{FailedLine, Recorded, all_right, batch, batch_on_all_nodes, condition, program};
pub use counter::{Counter, Mark};
pub use course::{Course, doubler};
pub use disk::{SlowDisk, SmallDisk};
pub use forward::fetch_forwarded;
pub use killer::Killer;
pub use kubectl::{helm, kubectl, kubectl_reading};
pub use local::{Component, Frozen, Killed, LocalCluster, Node};
pub use metrics::ApiRequests;
pub use monitoring::{
    Graph, Prometheus, Query, Series, configuration, draw, install_monitoring, queries, rules, uninstall_monitoring,
};
pub use operator::{OPERATOR_NAMESPACE, ensure_installed, install, leader, uninstall, upgrade};
pub use pod::{delete_by_force, restarts};
pub use release::{RELEASE, chart, on_release, without_harmony};
pub use scenario::{Scenario, scenario};
pub use scrape::Scrape;
pub use wait::eventually;
pub use web::SERVED;
