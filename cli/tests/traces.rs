//! Spans of real processes, as an OTLP receiver gets them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[cfg(test)]
mod kit;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};

use kit::Bench;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

/// Answers what is exported, and hands it on. Returns where it listens.
fn receive(spans: Sender<Span>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let spans = spans.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &spans));
        }
    });
    format!("http://{address}")
}

fn serve(stream: TcpStream, spans: &Sender<Span>) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader) {
        let exported = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let scopes = exported
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            spans.send(span).unwrap();
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        assert!(
            !line.starts_with("post") || line.starts_with("post /v1/traces "),
            "{line}"
        );
        length = length.or_else(|| line.strip_prefix("content-length: ")?.parse().ok());
    }
    let mut body = vec![0; length?];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

#[test]
fn a_run_gives_batch_chunk_and_recorded_in_one_trace() {
    let bench = Bench::with(&json!({
        "completions": 200, "parallelism": 2, "executor": {"process": {"command": ["cat"]}},
    }));
    let (sender, spans) = channel();
    let endpoint = receive(sender);
    let flags = ["--otlp-endpoint", &endpoint, "--log-level=info", "--log-format=json"];
    let said = bench.start_with(&flags).wait().expect(0).said;
    // The run's parts flush before they end, and the run waits for them.
    let spans: Vec<Span> = spans.try_iter().collect();
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["batch", "chunk", "recorded"]), "{said}");
    let batch = spans.iter().find(|span| span.name == "batch").unwrap();
    assert!(batch.parent_span_id.is_empty());
    let mut ids = BTreeSet::new();
    for span in &spans {
        assert_eq!(span.trace_id, batch.trace_id, "{span:?}");
        assert!(ids.insert(&span.span_id), "twice: {span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        if span.name != "batch" {
            assert_eq!(span.parent_span_id, batch.span_id, "{span:?}");
        }
    }
    let trace = uuid::Uuid::from_slice(&batch.trace_id).unwrap().simple().to_string();
    let in_logs = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|line| line["trace_id"] == trace.as_str());
    assert!(said.lines().any(in_logs), "{trace}: {said}");
}
