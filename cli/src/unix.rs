//! One HTTP request over a Unix socket, to another process of Harmony on this machine.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Asks for a path, and reads at most so many bytes. An error says why there is no answer.
pub(crate) async fn get(stream: UnixStream, path: &str, most: usize) -> Result<Bytes, String> {
    let broken = |error: hyper::Error| format!("it broke off: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), most).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(String::from_utf8_lossy(&body).trim().to_owned())
    }
}
