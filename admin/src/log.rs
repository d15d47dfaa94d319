//! The log's level, read and changed while a process runs.

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use harmony_telemetry::{Directives, FilterError, filter, set_filter};

/// `/debug/log`: GET answers with the filter directives, PUT changes them.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/debug/log", get(async || shown()).put(change))
}

async fn change(body: String) -> Response {
    match body.parse::<Directives>() {
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Ok(directives) => set_filter(directives).map_or_else(refused, |()| shown()),
    }
}

fn shown() -> Response {
    filter().map_or_else(refused, |directives| format!("{directives}\n").into_response())
}

fn refused(error: FilterError) -> Response {
    (StatusCode::CONFLICT, format!("{error}\n")).into_response()
}
