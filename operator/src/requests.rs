//! Counts what the operator asks the API server.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::{Request, Response};
use prometheus::{IntCounterVec, Opts, Registry};
use tower::{Layer, Service};

/// The code of a request that was not answered, as other clients of Kubernetes call it.
const NO_ANSWER: &str = "<error>";
/// What Kubernetes' API is asked by.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Counts requests by method and by the code of their answer. Watches count once, when they are opened.
#[derive(Clone, Debug)]
pub(crate) struct Requests(IntCounterVec);

impl Requests {
    /// Nothing yet, in a registry.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options = Opts::new(
            "harmony_operator_api_requests_total",
            "Requests to the API server, by method and by the status code of the answer.",
        );
        let counter = IntCounterVec::new(options, &["code", "method"])?;
        for method in METHODS {
            counter.with_label_values(&[NO_ANSWER, method]);
        }
        registry.register(Box::new(counter.clone()))?;
        Ok(Self(counter))
    }

    fn count(&self, method: &str, code: &str) {
        self.0.with_label_values(&[code, method]).inc();
    }
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            requests: self.clone(),
        }
    }
}

/// A client whose requests are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, B, A> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (requests, method) = (self.requests.clone(), request.method().clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(answer) => requests.count(method.as_str(), answer.status().as_str()),
                Err(_) => requests.count(method.as_str(), NO_ANSWER),
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};
    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_method_and_by_what_became_of_them() {
        let registry = Registry::new();
        let requests = Requests::register(&registry).unwrap();
        let server = service_fn(async |request: Request<&'static str>| match *request.body() {
            "silence" => Err("nobody answers"),
            _ => Ok(Response::builder().status(409).body(()).unwrap()),
        });
        let mut client = requests.layer(server);
        for (method, body) in [("POST", "a"), ("POST", "b"), ("GET", "silence")] {
            let request = Request::builder().method(method).body(body).unwrap();
            drop(client.call(request).await);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for (code, method, count) in [("409", "POST", 2), ("<error>", "GET", 1), ("<error>", "POST", 0)] {
            let line = format!("harmony_operator_api_requests_total{{code=\"{code}\",method=\"{method}\"}} {count}");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
