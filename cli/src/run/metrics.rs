//! `harmony run --metrics`: what the run, its collector and its workers show, at one address.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::join_all;
use harmony_admin::{Address, Admin, AdminError, Gathered, Metrics, MetricsError};
use harmony_protocol::ventilator::{Progress, WorkerView};
use harmony_transport::Meter;
use harmony_ventilator::observe::{Labels, Times, observe_batch, observe_fleet, observe_info, observe_times};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Plan;
use crate::unix;

/// The label that stands where a cluster has a namespace.
const NAMESPACE: &str = "local";
/// How long a part is waited for: a scraper waits for ten seconds, as it comes.
const PART_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a part's answer: a part has some hundred series.
const MAX_ANSWER: usize = 1 << 20;
/// Nothing is estimated to be complete later than this, in seconds: ten years.
const MAX_LEFT: f64 = 315_360_000.0;

/// What a run shows of its ventilator.
pub(crate) struct Views {
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) workers: watch::Receiver<Vec<WorkerView>>,
    pub(crate) links: Meter,
}

/// The address is served for as long as this lives.
pub(crate) struct Exporter {
    admin: Admin,
    rate: watch::Sender<f64>,
}

impl Exporter {
    /// Serves the metrics of a run whose parts have their own at these sockets.
    pub(crate) fn serve(
        address: &Address,
        plan: &Plan,
        views: Views,
        parts: Vec<(String, PathBuf)>,
    ) -> Result<Self, AdminError> {
        let (rate, rate_seen) = watch::channel(0.0);
        let started = plan.record.started;
        let subject = Subject {
            batch: plan.batch.name.to_string(),
            executor: plan.batch.executor.kind(),
            started,
            deadline: plan
                .batch
                .active_deadline
                .map(|time| started.saturating_add(time.as_secs())),
            views,
            rate: rate_seen,
            parts,
        };
        let routes = Router::new()
            .route("/metrics", get(answer))
            .with_state(Arc::new(subject));
        let admin = harmony_admin::serve("--metrics", address, routes)?;
        Ok(Self { admin, rate })
    }

    /// Where they are, for people.
    pub(crate) fn place(&self) -> String {
        match &self.admin.admin {
            Some(Address::Tcp(address)) => format!("http://{address}/metrics"),
            Some(address) => format!("/metrics at {address}"),
            None => String::new(),
        }
    }

    /// Tasks are settled at this rate, per second.
    pub(crate) fn note_rate(&self, rate: f64) {
        self.rate.send_replace(rate);
    }
}

struct Subject {
    batch: String,
    executor: &'static str,
    /// In seconds since 1970.
    started: u64,
    deadline: Option<u64>,
    views: Views,
    rate: watch::Receiver<f64>,
    parts: Vec<(String, PathBuf)>,
}

async fn answer(State(subject): State<Arc<Subject>>) -> Response {
    match subject.gather().await {
        Ok(text) => ([(header::CONTENT_TYPE, Gathered::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl Subject {
    /// The parts are asked first: what they have recorded by then, the ventilator may hear of a moment later.
    async fn gather(&self) -> Result<String, MetricsError> {
        let answers = join_all(self.parts.iter().map(|(part, socket)| async move {
            let answer = timeout(PART_WITHIN, ask(socket)).await;
            (part, answer.ok().flatten())
        }));
        let answers = answers.await;
        let mut gathered = Gathered::default();
        let mut metrics = Metrics::default();
        for (part, answer) in &answers {
            let labels = [("batch", self.batch.as_str()), ("namespace", NAMESPACE), ("part", part)];
            let help = "1 while this part of the run answers.";
            metrics.gauge("harmony_part_up", help, &labels, u64::from(answer.is_some()));
            gathered.add(answer.as_deref().unwrap_or_default(), &labels);
        }
        self.observe(&mut metrics);
        gathered.add(&metrics.encode()?, &[]);
        gathered.add(&harmony_admin::process()?, &[("part", "run")]);
        Ok(gathered.encode())
    }

    /// The series of the batch, as the operator has them.
    fn observe(&self, metrics: &mut Metrics) {
        let labels: Labels<'_> = [("namespace", NAMESPACE), ("batch", &self.batch)];
        let progress = self.views.progress.borrow().clone();
        observe_info(metrics, labels, self.executor);
        observe_times(metrics, labels, &self.times(&progress));
        observe_batch(metrics, labels, &progress);
        let workers = self.views.workers.borrow().clone();
        observe_fleet(metrics, labels, &progress, &workers, &self.views.links.read());
    }

    fn times(&self, progress: &Progress) -> Times {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (pending, in_flight) = progress.pending_and_in_flight();
        #[allow(clippy::cast_precision_loss)] // an estimate
        let left = (pending + in_flight) as f64 / *self.rate.borrow();
        let left = (left.is_finite() && left < MAX_LEFT).then(|| Duration::from_secs_f64(left));
        Times {
            started: Some(self.started),
            deadline: self.deadline,
            estimated: left.zip(now.ok()).map(|(left, now)| (now + left).as_secs()),
            completed: None,
        }
    }
}

/// What a part shows; nothing if it does not answer: it may be starting, or frozen.
async fn ask(socket: &PathBuf) -> Option<String> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let answer = unix::get(stream, "/metrics", MAX_ANSWER).await.ok()?;
    String::from_utf8(answer.into()).ok()
}
