//! Metrics as a scraper sees them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// Status and body. HTTP/1.0, so that the body is as it is. None if nobody answers.
pub fn fetch(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    ask(at, &format!("GET {path} HTTP/1.0\r\nhost: pod\r\n\r\n"))
}

/// What an HTTP/1.0 request is answered with; none if nobody answers.
pub fn ask(at: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The series of one scrape, by name and labels as they are written.
pub struct Scrape {
    pub text: String,
    series: BTreeMap<String, f64>,
}

impl Scrape {
    /// Scrapes an address; none if nobody answers.
    pub fn take(at: SocketAddr) -> Option<Self> {
        let (status, text) = fetch(at, "/metrics")?;
        assert_eq!(status, 200, "{text}");
        Some(Self::read(text))
    }

    /// Every line is a comment or a series of Harmony or of its process, with a number.
    pub fn read(text: String) -> Self {
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let ours = ["harmony_", "process_"].iter().any(|prefix| name.starts_with(prefix));
            assert!(ours, "{line}");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert_eq!(series.insert(name.to_owned(), value), None, "{name} is there twice");
        }
        Self { text, series }
    }

    /// The series of this name that have all these labels, and perhaps others.
    pub fn of(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let wanted: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let of = |series: &str| {
            let (family, labels) = series.split_once('{').unwrap_or((series, ""));
            let has = |wanted: &String| labels.starts_with(wanted.as_str()) || labels.contains(&format!(",{wanted}"));
            family == name && wanted.iter().all(has)
        };
        self.series
            .iter()
            .filter(|(series, _)| of(series))
            .map(|(_, value)| *value)
            .collect()
    }

    /// The only such series, if there is one.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let found = self.of(name, labels);
        assert!(found.len() < 2, "{name} {labels:?} is {found:?}");
        found.first().map(|value| format!("{value}").parse().unwrap())
    }

    /// The page of metrics knows each of them.
    pub fn assert_documented(&self) {
        let documented = include_str!("../../../docs/metrics.md");
        let families = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for family in families {
            assert!(documented.contains(family), "docs/metrics.md does not know {family}");
        }
    }

    /// Prometheus' own linter has nothing to say. Skipped, with the reason said, where it is missing and may be.
    pub fn assert_clean(&self) {
        let linter = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut linter = match linter {
            Ok(linter) => linter,
            Err(missing) => {
                assert!(
                    std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                    "promtool, of Debian's package prometheus: {missing}"
                );
                return println!("not linted, since there is no promtool: {missing}");
            }
        };
        linter.stdin.take().unwrap().write_all(self.text.as_bytes()).unwrap();
        let said = linter.wait_with_output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr),
        );
        assert!(said.status.success() && out.is_empty() && err.is_empty(), "{out}{err}");
    }
}
