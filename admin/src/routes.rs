//! What the addresses answer.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, Registry, TextEncoder};

use crate::{Inspector, Metrics, NoAnswer, Snapshot};

struct Subject<S> {
    inspector: Inspector<S>,
    registry: Registry,
}

impl<S> Clone for Subject<S> {
    fn clone(&self) -> Self {
        Self {
            inspector: self.inspector.clone(),
            registry: self.registry.clone(),
        }
    }
}

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}

pub(crate) fn public<S: Snapshot>(inspector: Inspector<S>, registry: Registry) -> Router {
    Router::new()
        .route("/metrics", get(metrics::<S>))
        .route("/healthz", get(healthz::<S>))
        .route("/readyz", get(readyz::<S>))
        .with_state(Subject { inspector, registry })
}

pub(crate) fn loopback<S: Snapshot>(inspector: Inspector<S>, more: Router) -> Router {
    let state = get(move || async move { inspector.ask().await.map(Json) });
    Router::new().route("/debug/state", state).merge(more)
}

async fn metrics<S: Snapshot>(State(subject): State<Subject<S>>) -> Result<Response, NoAnswer> {
    let mut metrics = Metrics::default();
    metrics.gauge(
        "harmony_build_info",
        "1, labelled by the version of Harmony.",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    subject.inspector.ask().await?.observe(&mut metrics);
    let mut families = metrics.into_families();
    families.extend(subject.registry.gather());
    // Under Prometheus' own names, so that the dashboards people have fit.
    families.extend(ProcessCollector::for_self().collect());
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    Ok(match encoder.encode(&families, &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    })
}

async fn healthz<S: Snapshot>(State(subject): State<Subject<S>>) -> Result<&'static str, NoAnswer> {
    subject.inspector.ask().await.map(|_| "ok\n")
}

async fn readyz<S: Snapshot>(State(subject): State<Subject<S>>) -> Result<Response, NoAnswer> {
    let unready = subject.inspector.ask().await?.unready();
    Ok(match unready {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    })
}
