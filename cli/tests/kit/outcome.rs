//! The files that a batch leaves, and what must hold of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A line of `results.ndjson`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Success {
    pub number: u64,
    pub attempt: u32,
    pub output: Option<String>,
    pub output_base64: Option<String>,
}

impl Success {
    /// The output, however it is written.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.output, &self.output_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(coded)) => {
                let bytes = STANDARD.decode(coded).unwrap();
                assert!(std::str::from_utf8(&bytes).is_err(), "{self:?} could be text");
                bytes
            }
            _ => panic!("{self:?} has no output, or two"),
        }
    }
}

/// A line of `failed.ndjson`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failed {
    pub number: u64,
    pub attempts: u32,
    pub reason: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub worker: String,
    pub log: String,
}

/// A row of `joblog.tsv`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub number: u64,
    pub attempt: u32,
    pub worker: String,
    pub start: String,
    pub seconds: f64,
    pub outcome: String,
}

/// What a batch left.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub succeeded: Vec<Success>,
    pub failed: Vec<Failed>,
    pub joblog: Vec<Row>,
}

impl Outcome {
    pub(super) fn read(dir: &Path) -> Self {
        let outcome = Self {
            succeeded: lines(&dir.join("results.ndjson")),
            failed: lines(&dir.join("failed.ndjson")),
            joblog: rows(&dir.join("joblog.tsv")),
        };
        outcome.check_numbers();
        outcome.check_joblog();
        outcome
    }

    /// Whatever happened: numbers ascend in both files, and none is in both.
    fn check_numbers(&self) {
        assert!(self.succeeded.is_sorted_by(|one, next| one.number < next.number));
        assert!(self.failed.is_sorted_by(|one, next| one.number < next.number));
        let is_success = |number| self.succeeded.binary_search_by_key(&number, |line| line.number).is_ok();
        let both = self.failed.iter().find(|failed| is_success(failed.number));
        assert_eq!(both, None, "it is in both files");
    }

    /// Whatever happened: one row says of each success that it succeeded, none does of another number, and no attempt is
    /// there twice.
    fn check_joblog(&self) {
        let mut rows = BTreeMap::new();
        for row in &self.joblog {
            let before = rows.insert((row.number, row.attempt), row);
            assert_eq!(before, None, "{row:?} is there twice");
            assert!(row.seconds >= 0.0 && row.start.ends_with('Z'), "{row:?}");
        }
        let successes = self.joblog.iter().filter(|row| row.outcome == "Succeeded");
        assert_eq!(successes.count(), self.succeeded.len());
        for line in &self.succeeded {
            let row = rows.get(&(line.number, line.attempt));
            assert!(row.is_some_and(|row| row.outcome == "Succeeded"), "{line:?} {row:?}");
        }
        for line in &self.failed {
            let row = rows.get(&(line.number, line.attempts));
            let told = row.is_some_and(|row| row.outcome == line.reason && row.worker == line.worker);
            assert!(told, "{line:?} {row:?}");
        }
    }

    /// Checks that all numbers below `completions` are there, and no other.
    pub fn assert_complete(&self, completions: u64) {
        let succeeded = self.succeeded.iter().map(|line| line.number);
        let mut numbers: Vec<u64> = succeeded.chain(self.failed.iter().map(|line| line.number)).collect();
        numbers.sort_unstable();
        assert!(
            numbers.iter().copied().eq(0..completions),
            "{completions} tasks, but {numbers:?}"
        );
    }

    /// Checks that all numbers below `completions` succeeded with the right bytes.
    pub fn assert_all(&self, completions: u64, answer: impl Fn(u64) -> Vec<u8>) {
        self.assert_complete(completions);
        assert_eq!(self.failed, []);
        self.assert_right(answer);
    }

    /// Checks the bytes of all that succeeded.
    pub fn assert_right(&self, answer: impl Fn(u64) -> Vec<u8>) {
        for line in &self.succeeded {
            let (found, right) = (line.bytes(), answer(line.number));
            assert!(
                found == right,
                "number {}: {} is not {}",
                line.number,
                found.escape_ascii(),
                right.escape_ascii()
            );
        }
    }

    /// The final failure of a number.
    pub fn failure(&self, number: u64) -> &Failed {
        let found = self.failed.iter().find(|failed| failed.number == number);
        found.unwrap_or_else(|| panic!("number {number} has not failed: {:?}", self.failed))
    }

    /// What the joblog says of each attempt of a number, in the order of attempts.
    pub fn attempts(&self, number: u64) -> Vec<(u32, &str)> {
        let rows = self.joblog.iter().filter(|row| row.number == number);
        let mut attempts: Vec<_> = rows.map(|row| (row.attempt, row.outcome.as_str())).collect();
        attempts.sort_unstable();
        attempts
    }
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{} is cut", path.display());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn rows(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("number\tattempt\tworker\tstart\tduration\toutcome"));
    lines.map(row).collect()
}

fn row(line: &str) -> Row {
    let fields: Vec<&str> = line.split('\t').collect();
    let [number, attempt, worker, start, duration, outcome] = fields[..] else {
        panic!("{line:?} is no row")
    };
    Row {
        number: number.parse().unwrap(),
        attempt: attempt.parse().unwrap(),
        worker: worker.to_owned(),
        start: start.to_owned(),
        seconds: duration.parse().unwrap(),
        outcome: outcome.to_owned(),
    }
}
