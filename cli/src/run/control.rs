//! The control socket of a run: in the batch's folder, for whoever asks why the batch is not done.

use std::path::Path;

use axum::Router;
use axum::extract::{Path as Parts, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;
use harmony_admin::{ANSWER_WITHIN, Control};
use harmony_protocol::ventilator::{Explanation, NumberExplanation, Snapshot};
use harmony_ventilator::driver::Command;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::timeout;

type Commands = UnboundedSender<Command>;
type Refusal = (StatusCode, &'static str);

/// Serves the socket. Where there can be none, as on some network file systems, the run goes on without.
pub(crate) fn serve(dir: &Path, commands: Commands) -> Option<Control> {
    let routes = Router::new()
        .route("/debug/state", get(state))
        .route("/explain", get(batch))
        .route("/explain/{number}", get(number))
        .with_state(commands)
        .merge(harmony_admin::log_routes());
    match harmony_admin::control(dir, routes) {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "harmony explain cannot ask this run: no control socket");
            None
        }
    }
}

async fn state(State(commands): State<Commands>) -> Result<Json<Snapshot>, Refusal> {
    ask(&commands, Command::Show).await
}

async fn batch(State(commands): State<Commands>) -> Result<Json<Explanation>, Refusal> {
    ask(&commands, Command::Explain).await
}

async fn number(
    State(commands): State<Commands>,
    Parts(number): Parts<u64>,
) -> Result<Json<NumberExplanation>, Refusal> {
    ask(&commands, |answer| Command::ExplainNumber(number, answer)).await
}

async fn ask<T>(commands: &Commands, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<Json<T>, Refusal> {
    let (sender, answer) = oneshot::channel();
    // A ventilator that has ended drops the question.
    let _ = commands.send(question(sender));
    match timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(answer)) => Ok(Json(answer)),
        Ok(Err(_)) => Err((StatusCode::SERVICE_UNAVAILABLE, "the run ends\n")),
        Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "the run is stuck\n")),
    }
}
