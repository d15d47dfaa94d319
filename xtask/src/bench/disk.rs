//! The disk that batches are recorded on: what it is, and what it can do.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::table::median;
use crate::context::{Context, output};

/// Bytes written at once, as the collector commits.
const BLOCK: usize = 4 << 20;
/// Syncs from which the time of one is taken.
const SYNCS: usize = 32;

/// What figures depend on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiskFacts {
    /// As `stat --file-system` names it.
    pub(crate) file_system: String,
    /// How long it takes to make 4 KiB durable.
    pub(crate) fsync_millis: f64,
}

impl DiskFacts {
    /// Looks at the disk of a folder. One in memory is refused: nothing on it is durable.
    pub(crate) fn of(context: &Context, folder: &Path) -> Result<Self> {
        let mut stat = context.command("stat");
        let file_system = output(stat.args(["--file-system", "--format=%T"]).arg(folder))?
            .trim()
            .to_owned();
        ensure!(
            !["tmpfs", "ramfs"].contains(&file_system.as_str()),
            "{} is on {file_system}, where nothing is durable: name a folder on a disk with --folder",
            folder.display()
        );
        Ok(Self {
            file_system,
            fsync_millis: sync_millis(&folder.join("fsync"))?,
        })
    }
}

fn sync_millis(path: &Path) -> Result<f64> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        file.write_all(&[0; 4_096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    fs::remove_file(path)?;
    median(times).context("no sync was timed")
}

/// The seconds it takes to write so many bytes one after the other and make them durable.
pub(crate) fn write_and_sync(path: &Path, bytes: u64) -> Result<f64> {
    let block = vec![0x5a; BLOCK];
    let begun = Instant::now();
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    for _ in 0..bytes.div_ceil(BLOCK as u64) {
        file.write_all(&block)?;
    }
    file.sync_data()?;
    let seconds = begun.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(seconds)
}
