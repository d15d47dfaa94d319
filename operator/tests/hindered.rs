//! The operator's program before an API server that is too busy, or does not answer: it asks in moderation, and goes on
//! when the server is well again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail by it

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const BATCHES: usize = 10;
/// How long requests are counted.
const COUNTED: Duration = Duration::from_secs(20);
/// Ten batches that nothing can be done for: each may ask twice in five seconds, in the mean.
const MOST_PER_SECOND: f64 = 4.0;
/// For what happens when the server is well again: the longest pause of a pass, and the limit of a silent call.
const WELL_WITHIN: Duration = Duration::from_mins(1);

/// How the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    Well,
    #[default]
    Busy,
    Silent,
}

#[derive(Default)]
struct Server {
    mood: Mood,
    lease: Option<Value>,
    version: u64,
    asked: u64,
    made: BTreeMap<String, u32>,
}

type Shared = Arc<Mutex<Server>>;

fn batch(number: usize) -> Value {
    json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch",
        "metadata": {
            "name": format!("b{number}"), "namespace": "default", "generation": 1, "resourceVersion": "1",
            "uid": format!("00000000-0000-4000-8000-{number:012}"),
        },
        "spec": {
            "completions": 4, "parallelism": 1, "executor": {"exec": {"command": ["cat"]}},
            "template": {"spec": {"containers": [{"name": "worker", "image": "i"}]}},
        },
    })
}

fn list(kind: &str, version: &str, items: &[Value]) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items })
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16(),
        "message": reason, "metadata": {},
    });
    (code, [(header::RETRY_AFTER, "1")], Json(status)).into_response()
}

async fn answer(State(server): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if path.contains("/leases") {
        return lease(&server, &method, &body);
    }
    if query.contains("watch=true") {
        return Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>()).into_response();
    }
    match path {
        "/apis/harmony.dev/v1alpha1/harmonybatches" => {
            let batches: Vec<_> = (0..BATCHES).map(batch).collect();
            return Json(list("HarmonyBatchList", "harmony.dev/v1alpha1", &batches)).into_response();
        }
        "/api/v1/pods" => return Json(list("PodList", "v1", &[])).into_response(),
        _ => {}
    }
    let mood = {
        let mut server = server.lock().unwrap();
        server.asked += 1;
        server.mood
    };
    match mood {
        Mood::Busy => refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        Mood::Silent => std::future::pending().await,
        Mood::Well => well(&server, &method, path, &body),
    }
}

fn lease(server: &Shared, method: &Method, body: &[u8]) -> Response {
    let mut server = server.lock().unwrap();
    if *method != Method::GET {
        server.version += 1;
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        lease["metadata"]["resourceVersion"] = json!(server.version.to_string());
        server.lease = Some(lease);
    }
    match &server.lease {
        Some(lease) => Json(lease.clone()).into_response(),
        None => refusal(StatusCode::NOT_FOUND, "NotFound"),
    }
}

/// Takes what is created, and gives it back; of a batch only the status changes.
fn well(server: &Shared, method: &Method, path: &str, body: &[u8]) -> Response {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    if *method == Method::POST {
        let kind = path.rsplit('/').next().unwrap_or_default().to_owned();
        *server.lock().unwrap().made.entry(kind).or_default() += 1;
        return (StatusCode::CREATED, Json(sent)).into_response();
    }
    let name = path.split('/').find_map(|part| part.strip_prefix('b')?.parse().ok());
    match name {
        Some(number) => {
            let mut batch = batch(number);
            batch["status"] = sent["status"].clone();
            Json(batch).into_response()
        }
        None => refusal(StatusCode::NOT_FOUND, "NotFound"),
    }
}

/// The operator's program, until this is dropped.
struct Operator(Child);

impl Operator {
    async fn start(folder: &std::path::Path, server: &Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(server));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let kubeconfig = folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let mut operator = Command::new(env!("CARGO_BIN_EXE_harmony-operator"));
        operator
            .args(["--insecure-tcp", "--spool-dir"])
            .arg(folder.join("spool"));
        operator
            .env("KUBECONFIG", kubeconfig)
            .env("HARMONY_LOG", "warn")
            .stderr(Stdio::null());
        Self(operator.spawn().unwrap())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < within, "waited {within:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{what} after {:.1?}", begun.elapsed());
}

/// Starts the operator before a server that is like this, and waits until it is felt.
async fn hindered(mood: Mood) -> (tempfile::TempDir, Shared, Operator) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("spool")).unwrap();
    let server = Shared::default();
    server.lock().unwrap().mood = mood;
    let operator = Operator::start(folder.path(), &server).await;
    eventually("a request", WELL_WITHIN, || server.lock().unwrap().asked > 0).await;
    (folder, server, operator)
}

/// Lets the server be well, and waits until every batch has its collector.
async fn goes_on(server: &Shared) {
    server.lock().unwrap().mood = Mood::Well;
    eventually("a collector for each batch", WELL_WITHIN, || {
        let made = &server.lock().unwrap().made;
        made.get("pods").is_some_and(|pods| *pods as usize >= BATCHES)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_busy_is_asked_in_moderation() {
    let (_folder, server, _operator) = hindered(Mood::Busy).await;
    let before = server.lock().unwrap().asked;
    tokio::time::sleep(COUNTED).await;
    let asked = server.lock().unwrap().asked - before;
    #[allow(clippy::cast_precision_loss)] // some hundreds at most
    let rate = asked as f64 / COUNTED.as_secs_f64();
    println!("{rate:.1} requests per second that were answered with 429, for {BATCHES} batches");
    assert!(rate > 0.0 && rate < MOST_PER_SECOND, "{rate} requests per second");
    goes_on(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_never_answered_keep_no_batch_for_ever() {
    let (_folder, server, _operator) = hindered(Mood::Silent).await;
    goes_on(&server).await;
}
