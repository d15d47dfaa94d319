//! What a process writes, seen from outside: this program starts itself as that process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::{Command, Output};

use harmony_telemetry::{LogArgs, LogFormat};
use serde_json::Value;

const FLOOD: u64 = 1_000;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("json") => speak(LogFormat::Json),
        Some("pretty") => speak(LogFormat::Pretty),
        _ => {
            objects_are_flat_and_what_repeats_is_bounded();
            people_get_text();
            println!("what a process writes: ok");
        }
    }
}

fn speak(format: LogFormat) {
    let args = LogArgs {
        log_format: Some(format),
        ..LogArgs::default()
    };
    let _telemetry = harmony_telemetry::init(&args, "warn");
    let span = tracing::error_span!("batch", batch = "a/b", epoch = tracing::field::Empty);
    let _inside = span.enter();
    span.record("epoch", 3);
    tracing::info!("hidden");
    again();
    tracing::error_span!("batch", batch = "a/other").in_scope(again);
    for target in ["one", "two"] {
        let line = || log::warn!(target: target, "by log");
        (0..FLOOD).for_each(|_| line());
    }
    harmony_telemetry::set_filter("info".parse().unwrap()).unwrap();
    tracing::info!(worker = "w", "shown");
    assert_eq!(harmony_telemetry::flags()[0], "--log-level=info");
}

fn again() {
    for number in 0..FLOOD {
        tracing::warn!(number, "again");
    }
}

fn child(format: &str) -> String {
    let Output { status, stderr, .. } = Command::new(std::env::current_exe().unwrap())
        .arg(format)
        .output()
        .unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{said}");
    said
}

fn objects_are_flat_and_what_repeats_is_bounded() {
    let said = child("json");
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let saying = |text: &str| lines.iter().filter(|line| line["message"] == text).collect::<Vec<_>>();
    assert_eq!(saying("hidden").len(), 0);
    let (again, other): (Vec<_>, Vec<_>) = saying("again").into_iter().partition(|line| line["batch"] == "a/b");
    assert_eq!((again.len(), other.len()), (20, 20));
    for (number, line) in again.iter().enumerate() {
        assert_eq!(line["number"], number);
        assert_eq!((&line["batch"], &line["epoch"]), (&"a/b".into(), &3.into()), "{line}");
        assert_eq!((&line["level"], &line["target"]), (&"WARN".into(), &"lines".into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    for target in ["one", "two"] {
        let by_log = saying("by log");
        assert_eq!(
            by_log.iter().filter(|line| line["target"] == target).count(),
            20,
            "{by_log:?}"
        );
        assert_eq!(by_log[0].get("log.target"), None);
    }
    assert_eq!(saying("shown")[0]["worker"], "w");
    let more = saying("980 more of this kind");
    let batches: Vec<_> = more.iter().map(|line| &line["batch"]).collect();
    for batch in ["a/b", "a/other"] {
        assert!(batches.contains(&&batch.into()), "{more:?}");
    }
    for line in more {
        let kind = line["kind"].as_str().unwrap();
        assert!(["lines", "one", "two"].contains(&kind), "{line}");
        assert_eq!(line["level"], "WARN");
    }
}

fn people_get_text() {
    let said = child("pretty");
    assert!(said.lines().any(|line| line.contains("shown")), "{said}");
    assert!(said.lines().all(|line| !line.starts_with('{')), "{said}");
}
