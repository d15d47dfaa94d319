//! Where the payloads of a batch come from: a range of numbers, a list, the lines of a file, a pipe or a URL.
//!
//! A source can be read again at any number, for as long as the batch lives, so that a ventilator holds no payload
//! longer than it takes to send it. What can be read only once is written down first, in the spool folder.

mod blocks;
mod error;
mod fetch;
mod hosts;
mod lines;
mod memory;
mod reach;
mod room;
mod spool;

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harmony_api::Tasks;

pub use error::SourceError;
pub use hosts::{HostPattern, InvalidHost};
pub use reach::Reach;
pub use room::{SpoolRoom, SpoolShare};

/// SHA-256 of all the tasks of a batch.
pub type Digest = [u8; 32];

/// The payloads of a batch, by number.
pub trait TaskSource: Send {
    /// How many tasks there are.
    fn completions(&self) -> u64;

    /// Appends what lies in `range` of the payload of `number` to `buffer`, and returns the length of the whole payload; both
    /// in bytes. A range may end behind the payload. After an error `buffer` is as it was. Ascending numbers are
    /// served fastest, and ascending ranges of a long payload.
    fn append(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, SourceError>;
}

/// The bytes of a payload that lie in a range, as far as there are any.
fn within(payload: &[u8], range: Range<u64>) -> &[u8] {
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(payload.len());
    payload.get(index(range.start)..index(range.end)).unwrap_or_default()
}

/// A source that is ready to be read.
pub struct Opened {
    /// The payloads.
    pub source: Box<dyn TaskSource>,
    /// Tells whether two sources hold the same tasks. For lines it is the SHA-256 of the file.
    pub digest: Digest,
}

/// Where a source may read and write, and for how long.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The folder that relative paths start at: the one of the file that holds the batch.
    pub base_dir: PathBuf,
    /// The folder for what is written down: `tasks.lines` and `tasks.json`. Made if it is not there.
    pub spool_dir: PathBuf,
    /// The bytes that may be written down.
    pub max_spool_bytes: u64,
    /// Where they are counted together with those of other batches, if there are others.
    pub spool_share: Option<Arc<SpoolShare>>,
    /// How long a server may take to connect, to answer, and for each further piece.
    pub patience: Duration,
    /// Which servers may be asked.
    pub reach: Reach,
}

impl SourceConfig {
    /// 64 GiB: far more than a file of tasks holds, far less than what an endless answer would write.
    pub const MAX_SPOOL_BYTES: u64 = 64 << 30;
    /// As long as web servers commonly wait themselves.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// The usual limits for these folders.
    pub fn new(base_dir: impl Into<PathBuf>, spool_dir: impl Into<PathBuf>) -> Self {
        Self {
            base_dir: base_dir.into(),
            spool_dir: spool_dir.into(),
            max_spool_bytes: Self::MAX_SPOOL_BYTES,
            spool_share: None,
            patience: Self::PATIENCE,
            reach: Reach::Any,
        }
    }
}

/// Makes the tasks of a batch ready: reads a file through once, and a pipe or URL into the spool folder, which may take
/// as long as they last. What was written down by an earlier call for the same pipe or URL is taken as it is.
///
/// `completions` is what the batch states; a source that holds another number is refused.
pub fn open(tasks: &Tasks, completions: Option<u64>, config: &SourceConfig) -> Result<Opened, SourceError> {
    match tasks {
        Tasks::Range => Ok(memory::range(completions.ok_or(SourceError::CompletionsMissing)?)),
        Tasks::Items(items) => {
            agree(completions, items.len() as u64, "spec.tasks.items", "entries")?;
            Ok(memory::items(items.clone()))
        }
        Tasks::Path(path) => open_path(&config.base_dir.join(path), completions, config),
        Tasks::Text { origin, text } => {
            agree(completions, memory::lines_of(text).count() as u64, origin, "lines")?;
            Ok(memory::text(text))
        }
        Tasks::ConfigMap { name, key } => Err(SourceError::Unresolved {
            name: name.clone(),
            key: key.clone(),
        }),
        Tasks::Url(url) => {
            let origin = fetch::without_password(url);
            if !spool::holds(&origin, config)? {
                let answer = fetch::fetch(url, config)?;
                spool::write(&origin, answer, config)?;
            }
            open_spool(&origin, completions, config)
        }
    }
}

fn open_path(path: &Path, completions: Option<u64>, config: &SourceConfig) -> Result<Opened, SourceError> {
    // The spool outlives the working folder of this run.
    let absolute = path::absolute(path).map_err(|source| SourceError::open(path, source))?;
    let origin = absolute.display().to_string();
    match fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_file() => open_lines(path, &path.display().to_string(), completions),
        Ok(kind) if kind.is_dir() => Err(SourceError::Folder { path: path.to_owned() }),
        // A pipe that was read to its end may be gone by the time the batch is resumed.
        _ if spool::holds(&origin, config)? => open_spool(&origin, completions, config),
        Ok(kind) if kind.is_fifo() || kind.is_char_device() => {
            let pipe = File::open(path).map_err(|source| SourceError::open(path, source))?;
            spool::write(&origin, pipe, config)?;
            open_spool(&origin, completions, config)
        }
        Ok(_) => Err(SourceError::open(path, io::Error::other("neither a file nor a pipe"))),
        Err(source) => Err(SourceError::open(path, source)),
    }
}

fn open_spool(origin: &str, completions: Option<u64>, config: &SourceConfig) -> Result<Opened, SourceError> {
    let opened = open_lines(&spool::lines_path(config), origin, completions)?;
    spool::verify(&opened.digest, config)?;
    Ok(opened)
}

fn open_lines(path: &Path, origin: &str, completions: Option<u64>) -> Result<Opened, SourceError> {
    let (source, digest) = lines::LinesSource::open(path)?;
    agree(completions, source.completions(), origin, "lines")?;
    Ok(Opened {
        source: Box::new(source),
        digest,
    })
}

fn agree(stated: Option<u64>, held: u64, origin: &str, unit: &'static str) -> Result<(), SourceError> {
    match stated {
        Some(stated) if stated != held => Err(SourceError::CompletionsDiffer {
            stated,
            held,
            origin: origin.to_owned(),
            unit,
        }),
        _ => Ok(()),
    }
}

/// The next bytes of `reader`, into `chunk`; none at the end. A signal is no reason to stop reading.
fn next_bytes<'chunk>(reader: &mut impl Read, chunk: &'chunk mut [u8]) -> io::Result<&'chunk [u8]> {
    loop {
        match reader.read(chunk) {
            Ok(read) => return Ok(chunk.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
