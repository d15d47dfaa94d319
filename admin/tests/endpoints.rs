//! The endpoints, asked over HTTP by a bare client.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use harmony_admin::{
    ANSWER_WITHIN, Address, Admin, AdminArgs, AdminError, Inspections, Metrics, Snapshot, inspections, start,
};
use prometheus::{IntCounter, Registry};
use serde::Serialize;

#[derive(Clone, Serialize)]
struct Subject {
    tasks: u64,
    #[serde(skip)]
    unready: Option<String>,
}

impl Snapshot for Subject {
    fn observe(&self, metrics: &mut Metrics) {
        for state in ["queued", "running"] {
            metrics.gauge("subject_tasks", "Tasks.", &[("state", state)], self.tasks);
        }
        metrics.counter("subject_dropped_total", "Dropped \"input\".", &[], 0);
    }

    fn unready(&self) -> Option<String> {
        self.unready.clone()
    }
}

const ANY: &str = "127.0.0.1:0";

fn args() -> AdminArgs {
    AdminArgs {
        admin: ANY.parse().ok(),
        loopback: ANY.parse().ok(),
    }
}

fn serve(routes: Router) -> (Admin, Inspections<Subject>) {
    let registry = Registry::new();
    let counter = IntCounter::new("subject_seen_total", "Seen.").unwrap();
    counter.inc_by(7);
    registry.register(Box::new(counter)).unwrap();
    let (inspector, inspections) = inspections();
    (start(&args(), inspector, registry, routes).unwrap(), inspections)
}

/// A main loop that answers every inspection with the same.
fn answering(subject: Subject, mut inspections: Inspections<Subject>) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            while let Some(inspection) = inspections.next().await {
                inspection.answer(subject.clone());
            }
        });
    });
}

fn public(admin: &Admin) -> Option<SocketAddr> {
    admin.admin.as_ref().and_then(Address::network)
}

fn fetch(at: Option<SocketAddr>, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at.unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn metrics_show_the_state_and_the_registry() {
    let (admin, inspections) = serve(Router::new());
    let subject = Subject {
        tasks: 3,
        unready: None,
    };
    answering(subject, inspections);
    let (status, text) = fetch(public(&admin), "/metrics");
    assert_eq!(status, 200);
    let lines: Vec<_> = text.lines().collect();
    for line in [
        "# TYPE subject_tasks gauge",
        "subject_tasks{state=\"queued\"} 3",
        "subject_tasks{state=\"running\"} 3",
        "# TYPE subject_dropped_total counter",
        "subject_dropped_total 0",
        "subject_seen_total 7",
    ] {
        assert!(lines.contains(&line), "{line} is not in\n{text}");
    }
    assert!(text.contains("harmony_build_info{version="), "{text}");
    assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    for measured in ["process_resident_memory_bytes ", "process_open_fds "] {
        let value = lines.iter().find_map(|line| line.strip_prefix(measured));
        assert!(value.is_some_and(|value| value != "0"), "{measured}: {value:?}");
    }
}

#[test]
fn a_process_is_ready_or_says_why_not() {
    let (admin, inspections) = serve(Router::new());
    let reason = Some("the disk is away".to_owned());
    answering(
        Subject {
            tasks: 0,
            unready: reason,
        },
        inspections,
    );
    assert_eq!(fetch(public(&admin), "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(fetch(public(&admin), "/readyz"), (503, "the disk is away\n".to_owned()));
}

#[test]
fn a_stuck_loop_fails_the_health_check_in_time() {
    let (admin, inspections) = serve(Router::new());
    let began = Instant::now();
    let (status, reason) = fetch(public(&admin), "/healthz");
    let took = began.elapsed();
    assert_eq!(status, 503);
    assert!(reason.contains("has not answered"), "{reason}");
    assert!(took >= ANSWER_WITHIN && took < 10 * ANSWER_WITHIN, "it took {took:?}");
    // It is not stuck for good: once it goes on, the answers are right again.
    answering(
        Subject {
            tasks: 0,
            unready: None,
        },
        inspections,
    );
    assert_eq!(fetch(public(&admin), "/healthz").0, 200);
}

#[test]
fn an_ended_loop_fails_the_health_check_at_once() {
    let (admin, inspections) = serve(Router::new());
    drop(inspections);
    let (status, reason) = fetch(public(&admin), "/healthz");
    assert_eq!((status, reason.as_str()), (503, "the main loop has ended\n"));
}

#[test]
fn what_is_not_for_everybody_is_only_on_loopback() {
    let routes = Router::new().route("/results", get(|| async { "7" }));
    let (admin, inspections) = serve(routes);
    answering(
        Subject {
            tasks: 3,
            unready: None,
        },
        inspections,
    );
    assert_eq!(fetch(admin.loopback, "/debug/state"), (200, "{\"tasks\":3}".to_owned()));
    assert_eq!(fetch(admin.loopback, "/results"), (200, "7".to_owned()));
    for path in ["/debug/state", "/results"] {
        assert_eq!(fetch(public(&admin), path).0, 404, "{path} is public");
    }
}

#[test]
fn an_open_address_is_refused_for_what_is_not_for_everybody() {
    let (inspector, _inspections) = inspections::<Subject>();
    let args = AdminArgs {
        admin: None,
        loopback: Some("0.0.0.0:0".parse().unwrap()),
    };
    let refused = start(&args, inspector, Registry::new(), Router::new()).unwrap_err();
    assert!(matches!(refused, AdminError::NotLoopback(_)), "{refused}");
}

#[test]
fn the_endpoints_end_with_their_handle() {
    let (admin, _inspections) = serve(Router::new());
    let at = public(&admin).unwrap();
    drop(admin);
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(at).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
        std::thread::yield_now();
    }
}
