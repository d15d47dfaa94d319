//! A run's own metrics.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::run::Bench;

/// The socket on which a run serves its metrics.
pub(crate) fn socket(bench: &Bench) -> PathBuf {
    bench.folder.join("metrics")
}

/// All metrics, as text.
pub(crate) fn scrape(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: run\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
