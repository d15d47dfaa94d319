//! Why a batch is not done, for a person who came by port-forward.

use std::future::Future;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;
use harmony_admin::ANSWER_WITHIN;
use harmony_api::conventions::STANDS_BY;
use harmony_protocol::ids::BatchUid;
use harmony_protocol::ventilator::{Explanation, NumberExplanation};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::leader::Role;
use crate::ventilators::{BatchKey, VentilatorState, Ventilators};

/// Who is asked.
#[derive(Clone)]
struct Asked {
    role: watch::Receiver<Role>,
    ventilators: Ventilators,
}

/// Why there is no answer, in words for a person.
type Refusal = (StatusCode, String);

/// The routes `/explain/NAMESPACE/BATCH` and `/explain/NAMESPACE/BATCH/NUMBER`.
pub(crate) fn routes(role: watch::Receiver<Role>, ventilators: Ventilators) -> Router {
    Router::new()
        .route("/explain/{namespace}/{name}", get(batch))
        .route("/explain/{namespace}/{name}/{number}", get(number))
        .with_state(Asked { role, ventilators })
}

async fn batch(
    State(asked): State<Asked>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Explanation>, Refusal> {
    let uid = asked.find(namespace, name)?;
    asked.answer(uid, asked.ventilators.explain(uid)).await
}

async fn number(
    State(asked): State<Asked>,
    Path((namespace, name, number)): Path<(String, String, u64)>,
) -> Result<Json<NumberExplanation>, Refusal> {
    let uid = asked.find(namespace, name)?;
    asked.answer(uid, asked.ventilators.explain_number(uid, number)).await
}

impl Asked {
    fn find(&self, namespace: String, name: String) -> Result<BatchUid, Refusal> {
        if matches!(*self.role.borrow(), Role::Standby | Role::Deposed) {
            let standby = format!("{STANDS_BY}; the lease harmony-operator names the one that leads\n");
            return Err((StatusCode::SERVICE_UNAVAILABLE, standby));
        }
        let key = BatchKey { namespace, name };
        let mut batches = self.ventilators.keys().into_iter();
        let found = batches.find(|(_, other)| *other == key);
        found.map(|(uid, _)| uid).ok_or_else(|| {
            let BatchKey { namespace, name } = key;
            let none = format!("no ventilator runs for {namespace}/{name}\n");
            (StatusCode::NOT_FOUND, none)
        })
    }

    async fn answer<T>(&self, uid: BatchUid, answer: impl Future<Output = Option<T>>) -> Result<Json<T>, Refusal> {
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(Some(answer)) => Ok(Json(answer)),
            Ok(None) => Err((StatusCode::NOT_FOUND, instead(self.ventilators.state(uid).as_ref()))),
            Err(_) => {
                let opening = matches!(self.ventilators.state(uid), Some(VentilatorState::Opening));
                let why = if opening {
                    instead(Some(&VentilatorState::Opening))
                } else {
                    format!("the ventilator has not answered for {} s\n", ANSWER_WITHIN.as_secs())
                };
                Err((StatusCode::SERVICE_UNAVAILABLE, why))
            }
        }
    }
}

/// What there is to say of a ventilator whose machine does not run.
fn instead(state: Option<&VentilatorState>) -> String {
    match state {
        Some(VentilatorState::Opening) => "the ventilator still reads the tasks\n".to_owned(),
        Some(VentilatorState::Done { .. }) => "the ventilator has ended: the batch is over\n".to_owned(),
        Some(VentilatorState::Fenced { epoch }) => format!("another ventilator has the batch, with epoch {epoch}\n"),
        Some(VentilatorState::Failed { reason }) => format!("the ventilator broke down: {reason}\n"),
        Some(VentilatorState::SourceFailed { error, .. }) => format!("the tasks cannot be read: {error}\n"),
        Some(VentilatorState::SourceChanged { .. }) => "the tasks are not those the batch began with\n".to_owned(),
        Some(VentilatorState::Running(_)) | None => "the ventilator has just ended\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use harmony_ventilator::source::SpoolRoom;
    use tokio::sync::mpsc;

    use super::*;
    use crate::ventilators::Settings;

    fn asked(role: Role) -> Asked {
        let ventilators = Ventilators::new(Settings {
            name: "operator".into(),
            spool_dir: PathBuf::from("spool"),
            spool_room: SpoolRoom::new(0),
            transport: harmony_transport::Config::default(),
            wake: mpsc::channel(1).0,
        });
        Asked {
            role: watch::channel(role).1,
            ventilators,
        }
    }

    #[test]
    fn only_the_leader_answers_and_names_what_it_does_not_run() {
        let find = |role| asked(role).find("team-a".into(), "render".into());
        let (code, said) = find(Role::Standby).unwrap_err();
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(said.contains("lease harmony-operator"), "{said}");
        let (code, said) = find(Role::Leader).unwrap_err();
        assert_eq!(code, StatusCode::NOT_FOUND);
        assert!(said.contains("team-a/render"), "{said}");
    }
}
