//! An API server that knows one batch, its collector pod and a port-forward to that.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket, accept_hdr};

/// What a forwarded connection answers.
#[derive(Clone, Debug)]
pub enum Forward {
    /// These bytes, and the connection ends.
    Answers(String),
    /// The API server refuses to forward.
    Refused(u16),
}

/// What the API server knows.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The batch named `render`.
    pub batch: Option<Value>,
    /// The collector pods.
    pub pods: Vec<Value>,
    /// What the connections to the pods answer, one after the other.
    pub forwards: Vec<Forward>,
    /// The operator's pods.
    pub operators: Vec<Value>,
    /// Events.
    pub events: Vec<Value>,
    /// The user may read batches alone.
    pub batches_only: bool,
}

/// A running server.
pub struct FakeApi {
    dir: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    pub fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "team-a"}}],
        });
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (noted, world) = (Arc::clone(&asked), Arc::new(Mutex::new(world)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (noted, world) = (Arc::clone(&noted), Arc::clone(&world));
                thread::spawn(move || answer(stream, &noted, &world));
            }
        });
        Self { dir, asked }
    }

    /// A path in a folder of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `harmony` against this cluster.
    pub fn harmony(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_harmony"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env("KUBECONFIG", self.path("kubeconfig"))
            .output()
            .unwrap()
    }

    /// The first lines of all requests, those through the port-forward included.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<String>>, world: &Mutex<World>) {
    let mut front = [0; 4096];
    let read = stream.peek(&mut front).unwrap();
    let line = first_line(&front[..read]);
    asked.lock().unwrap().push(line.clone());
    if line.contains("/portforward") {
        let forward = world.lock().unwrap().forwards.remove(0);
        return match forward {
            Forward::Answers(bytes) => forward_port(stream, &bytes, asked),
            Forward::Refused(code) => {
                let message = "pods \"x\" is forbidden: User \"u\" cannot get resource \"pods/portforward\"";
                let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Forbidden",
                                    "message": message, "code": code});
                respond(&mut stream, code, &status);
            }
        };
    }
    let world = world.lock().unwrap().clone();
    let list = |kind: &str, items: &[Value]| {
        let items = items.to_vec();
        (
            200,
            json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items}),
        )
    };
    let (code, body) = if world.batches_only && !line.contains("/harmonybatches/") {
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Forbidden",
                            "message": "forbidden: User \"u\" cannot", "code": 403});
        (403, status)
    } else if line.contains("/namespaces/harmony-system/pods") {
        list("PodList", &world.operators)
    } else if line.contains("/namespaces/team-a/events") {
        list("EventList", &world.events)
    } else if line.contains("/namespaces/team-a/pods") {
        (
            200,
            json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": world.pods}),
        )
    } else if ["?", " "]
        .iter()
        .any(|end| line.contains(&format!("/namespaces/team-a/harmonybatches{end}")))
    {
        let list = json!({"apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatchList",
                          "metadata": {"resourceVersion": "1"}, "items": world.batch.as_slice()});
        (200, list)
    } else if let Some(batch) = world
        .batch
        .filter(|_| line.contains("/namespaces/team-a/harmonybatches/render"))
    {
        (200, batch)
    } else {
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound",
                            "message": "not found", "code": 404});
        (404, status)
    };
    respond(&mut stream, code, &body);
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn respond(stream: &mut TcpStream, code: u16, body: &Value) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).unwrap();
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = stream.write_all((head + &body).as_bytes());
}

#[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
fn forward_port(stream: TcpStream, answer: &str, asked: &Mutex<Vec<String>>) {
    let protocol = |_: &Request, mut response: Response| {
        let name = "v4.channel.k8s.io".parse().unwrap();
        response.headers_mut().insert("sec-websocket-protocol", name);
        Ok(response)
    };
    let mut socket = accept_hdr(stream, protocol).unwrap();
    let port = 27_781_u16.to_le_bytes();
    for channel in [0, 1] {
        send(&mut socket, &[&[channel], &port[..]].concat());
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if let Message::Binary(bytes) = socket.read().unwrap() {
            request.extend_from_slice(&bytes[1..]);
        }
    }
    asked.lock().unwrap().push(first_line(&request));
    // In small pieces, as a network would.
    for piece in answer.as_bytes().chunks(7) {
        send(&mut socket, &[&[0], piece].concat());
    }
    let _ = socket.close(None);
    while socket.read().is_ok() {}
}

fn send(socket: &mut WebSocket<TcpStream>, bytes: &[u8]) {
    let _ = socket.send(Message::Binary(bytes.to_vec().into()));
}

/// An HTTP response of one chunk; without its end it is one that broke off.
pub fn chunked(body: &str, whole: bool) -> String {
    let end = if whole { "\r\n0\r\n\r\n" } else { "" };
    format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}{end}",
        body.len() + usize::from(!whole)
    )
}
