//! A run's own metrics.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::run::Bench;

/// The socket on which a run serves its metrics.
pub(crate) fn socket(bench: &Bench) -> PathBuf {
    bench.folder.join("metrics")
}

/// Lets a run serve its metrics there.
pub(crate) fn serve(command: &mut Command, socket: &Path) {
    command.arg("--metrics").arg(format!("unix:{}", socket.display()));
}

/// All metrics, as text.
pub(crate) fn scrape(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: run\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The sum of a metric's series that have this label, or nothing if there are none.
pub(crate) fn sum(text: &str, name: &str, label: &str) -> Option<f64> {
    let series = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let values = series.filter_map(|series| {
        let (labels, value) = series.rsplit_once("} ")?;
        labels.contains(label).then(|| value.parse::<f64>().ok()).flatten()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let text = "# TYPE a counter\na{b=\"1\",c=\"x\"} 2\na{b=\"2\",c=\"x\"} 3\na{c=\"y\"} 9\nab{c=\"x\"} 9\n";
        assert_eq!(sum(text, "a", "c=\"x\"").map(f64::to_bits), Some(5_f64.to_bits()));
        assert!(sum(text, "a", "c=\"z\"").is_none());
    }
}
