//! One HTTP request to the loopback of a pod, through the API server's port-forward: no door in the network is needed.

use std::time::Duration;

use harmony_api::conventions::LOOPBACK_PORT;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::timeout;

use super::access::causes;
use crate::exit::Failure;

/// Bytes of an error's text that are read.
const MAX_REASON: usize = 4 << 10;
/// How long a connection may be silent: a collector that looks for a few failures among very many results takes a while.
pub(crate) const SILENCE: Duration = Duration::from_mins(5);
/// How long the API server may take to say why a port cannot be forwarded.
const REASON_WITHIN: Duration = Duration::from_secs(1);

/// Why a request came to nothing.
pub(crate) enum Refused {
    /// The connection broke: a later try may go through.
    Broken(String),
    /// No try will.
    Final(Failure),
}

/// Asks for a path. The response is read as it comes.
pub(crate) async fn ask(
    pods: &Api<Pod>,
    namespace: &str,
    pod: &str,
    path: &str,
) -> Result<Response<Incoming>, Refused> {
    let mut forwarder = pods
        .portforward(pod, &[LOOPBACK_PORT])
        .await
        .map_err(|error| cannot_forward(namespace, pod, &error))?;
    let stream = forwarder
        .take_stream(LOOPBACK_PORT)
        .ok_or_else(|| Refused::Broken("the API server forwards nothing".to_owned()))?;
    let failed = forwarder.take_error(LOOPBACK_PORT);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Refused::Broken(causes(&error)))?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Refused::Final(Failure::bad_input(error)))?;
    let response = match timeout(SILENCE, sender.send_request(request)).await {
        Err(_) => return Err(Refused::Broken(format!("pod {pod} does not answer"))),
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(Refused::Broken(reason(failed, &error).await)),
    };
    match response.status() {
        StatusCode::OK => Ok(response),
        status => {
            let text = Limited::new(response.into_body(), MAX_REASON).collect().await;
            let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            // A collector that has just been started opens the log of a batch when somebody asks for the batch.
            Err(Refused::Broken(format!("pod {pod} answers {status} {text}")))
        }
    }
}

/// What the API server says of a forwarded port tells more than that the connection ended.
async fn reason(failed: Option<impl Future<Output = Option<String>>>, error: &hyper::Error) -> String {
    let said = match failed {
        Some(failed) => timeout(REASON_WITHIN, failed).await.ok().flatten(),
        None => None,
    };
    said.map_or_else(|| causes(error), |said| said.trim().to_owned())
}

fn cannot_forward(namespace: &str, pod: &str, error: &kube::Error) -> Refused {
    use kube::client::UpgradeConnectionError::ProtocolSwitch;
    let (code, said) = match error {
        kube::Error::Api(status) => (status.code, status.message.as_str()),
        kube::Error::UpgradeConnection(ProtocolSwitch(code)) => (code.as_u16(), ""),
        _ => return Refused::Broken(causes(error)),
    };
    if [401, 403].contains(&code) {
        return Refused::Final(Failure::infrastructure(format!(
            "cannot ask pod {pod}: you may not forward its ports; ask for the rights get and create on pods/portforward in \
             namespace {namespace} (the API server says {code} {said})"
        )));
    }
    Refused::Broken(format!("the API server does not forward to pod {pod}: {code} {said}"))
}
