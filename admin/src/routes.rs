//! What the addresses answer.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::Registry;

use crate::metrics::exposition;
use crate::{Inspector, NoAnswer, Snapshot};

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
    Router::new()
        .route("/debug/state", state)
        .merge(crate::log_routes())
        .merge(more)
}

async fn metrics<S: Snapshot>(State(subject): State<Subject<S>>) -> Result<Response, NoAnswer> {
    let text = exposition(&subject.inspector.ask().await?, &subject.registry);
    Ok(match text {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
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
