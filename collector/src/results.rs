//! The results of batches over HTTP, streamed from their logs: while a batch runs, when it is over, and after a restart.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path as Parts, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use harmony_admin::Router;
use harmony_log::disk::RealDisk;
use harmony_log::{LogError, LogReader};
use harmony_protocol::collector::BatchState;
use harmony_protocol::ids::BatchUid;
use harmony_protocol::wire::{Counts, Done};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::export::{self, Export, StreamError};
use crate::log_dir;
use crate::number::{Recorded, recorded};

/// Answers under way at once; each holds a thread and some buffers for as long as its reader takes.
const READERS: usize = 16;
/// Bytes that are sent at once.
const CHUNK: usize = 64 << 10;
/// Chunks made before the reader has taken them.
const AHEAD: usize = 4;

/// Where the logs are, and the room for readers.
#[derive(Clone)]
struct Logs {
    dir: PathBuf,
    readers: Arc<Semaphore>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no batch {0} is recorded here")]
    Unknown(BatchUid),
    #[error("a batch has no {0:?}: there are results.ndjson, failed.ndjson and joblog.tsv")]
    NoSuchFile(String),
    #[error("number {0} has no output: it has not succeeded, or not yet")]
    NoOutput(u64),
    #[error("{READERS} readers are served already; try again later")]
    Busy,
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    #[error("the collector ends")]
    Ending,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unknown(_) | Self::NoSuchFile(_) | Self::NoOutput(_) => StatusCode::NOT_FOUND,
            Self::Busy | Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            Self::Log(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{self}\n")).into_response()
    }
}

#[derive(Deserialize)]
struct From {
    /// The number, or the row of a job log, to begin with.
    #[serde(default)]
    from: u64,
}

/// How far a batch is, as its log says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    uid: BatchUid,
    completions: Option<u64>,
    counts: Counts,
    lowest_missing: u64,
    ended: Option<Done>,
}

/// The routes of the results of all batches whose logs are in a folder.
pub(crate) fn routes(dir: PathBuf) -> Router {
    let readers = Arc::new(Semaphore::new(READERS));
    Router::new()
        .route("/batches/{uid}", get(summary))
        .route("/batches/{uid}/numbers/{number}", get(number))
        .route("/batches/{uid}/outputs/{number}", get(output))
        .route("/batches/{uid}/{file}", get(lines))
        .with_state(Logs { dir, readers })
}

impl Logs {
    fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.readers).try_acquire_owned().map_err(|_| Refusal::Busy)
    }
}

/// The log as it is now. Whoever writes it is not disturbed. What the writer has not made durable yet is made so first:
/// an answer that was given away must not change after a loss of power.
fn look(dir: &Path, uid: BatchUid) -> Result<(LogReader, BatchState), Refusal> {
    let looked = LogReader::look(Arc::new(RealDisk), &log_dir(dir, uid), uid)?;
    let (reader, state) = looked.ok_or(Refusal::Unknown(uid))?;
    reader.make_durable()?;
    Ok((reader, state))
}

async fn summary(State(logs): State<Logs>, Parts(uid): Parts<Uuid>) -> Result<Json<Summary>, Refusal> {
    let (permit, uid) = (logs.enter()?, BatchUid(uid));
    let looked = spawn_blocking(move || {
        let (_, state) = look(&logs.dir, uid)?;
        drop(permit);
        Ok(Json(Summary {
            uid,
            completions: state.completions(),
            counts: state.counts(),
            lowest_missing: state.settled().low(),
            ended: state.ended().cloned(),
        }))
    });
    looked.await.unwrap_or(Err(Refusal::Ending))
}

async fn number(State(logs): State<Logs>, Parts((uid, number)): Parts<(Uuid, u64)>) -> Result<Json<Recorded>, Refusal> {
    let (permit, uid) = (logs.enter()?, BatchUid(uid));
    let looked = spawn_blocking(move || {
        let (reader, state) = look(&logs.dir, uid)?;
        drop(permit);
        Ok(Json(recorded(&reader, &state, number)?))
    });
    looked.await.unwrap_or(Err(Refusal::Ending))
}

async fn lines(
    State(logs): State<Logs>,
    Parts((uid, file)): Parts<(Uuid, String)>,
    Query(From { from }): Query<From>,
) -> Result<Response, Refusal> {
    let export = [Export::Results, Export::Failed, Export::Joblog]
        .into_iter()
        .find(|export| export.file_name() == file)
        .ok_or(Refusal::NoSuchFile(file))?;
    let kind = match export {
        Export::Joblog => "text/tab-separated-values",
        Export::Results | Export::Failed => "application/x-ndjson",
    };
    let uid = BatchUid(uid);
    let base = log_dir(&logs.dir, uid);
    let made = move |reader: &LogReader, out: &mut Out<'_>| export::stream(reader, &base, export, from, out);
    streamed(logs, uid, kind, |_| Ok(()), made).await
}

async fn output(State(logs): State<Logs>, Parts((uid, number)): Parts<(Uuid, u64)>) -> Result<Response, Refusal> {
    let uid = BatchUid(uid);
    let there = move |state: &BatchState| {
        if state.settled().contains(number) && !state.has_failed(number) {
            Ok(())
        } else {
            Err(Refusal::NoOutput(number))
        }
    };
    let made = move |reader: &LogReader, out: &mut Out<'_>| export::output(reader, number, out).map(drop);
    streamed(logs, uid, "application/octet-stream", there, made).await
}

/// Answers with what is made of a log, as it is made, if there is something to make.
async fn streamed(
    logs: Logs,
    uid: BatchUid,
    kind: &'static str,
    check: impl FnOnce(&BatchState) -> Result<(), Refusal> + Send + 'static,
    made: impl FnOnce(&LogReader, &mut Out<'_>) -> Result<(), StreamError> + Send + 'static,
) -> Result<Response, Refusal> {
    let permit = logs.enter()?;
    let (began, begins) = oneshot::channel();
    let (chunks, body) = mpsc::channel(AHEAD);
    spawn_blocking(move || {
        let _permit = permit;
        let looked = look(&logs.dir, uid).and_then(|(reader, state)| check(&state).map(|()| reader));
        let reader = match looked {
            Ok(reader) => reader,
            Err(refusal) => return drop(began.send(Err(refusal))),
        };
        if began.send(Ok(())).is_ok() {
            send(&chunks, |out| made(&reader, out));
        }
    });
    begins.await.unwrap_or(Err(Refusal::Ending))?;
    let body = stream::unfold(body, async |mut body| body.recv().await.map(|chunk| (chunk, body)));
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(body)).into_response())
}

type Chunk = io::Result<Bytes>;

type Out<'a> = BufWriter<Taken<'a>>;

/// Sends what is made as fast as it is taken. What breaks is seen as a broken connection, never as an early end.
fn send(chunks: &mpsc::Sender<Chunk>, made: impl FnOnce(&mut Out<'_>) -> Result<(), StreamError>) {
    let mut out = BufWriter::with_capacity(CHUNK, Taken(chunks));
    let sent = made(&mut out).and_then(|()| Ok(out.flush()?));
    if let Err(error) = sent.map_err(|error| error.to_string())
        && !chunks.is_closed()
    {
        tracing::warn!(error, "results cannot be read");
        let _ = chunks.blocking_send(Err(io::Error::other(error)));
    }
}

/// Waits until the reader takes a chunk; an error if it is gone.
struct Taken<'a>(&'a mpsc::Sender<Chunk>);

impl Write for Taken<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A single output can be large; what waits for a slow reader must not be.
        let bytes = bytes.get(..CHUNK).unwrap_or(bytes);
        let chunk = Ok(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
