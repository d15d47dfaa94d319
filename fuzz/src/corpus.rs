//! The corpora: small files in `fuzz/corpus/TARGET/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::Target;

/// The kept cases of one target.
#[derive(Clone, Debug)]
pub struct Corpus {
    folder: PathBuf,
}

impl Corpus {
    /// The corpus of a target in this checkout.
    pub fn of(target: &Target) -> Self {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        Self::at(&corpora.join(target.name))
    }

    /// The corpus in a folder, which need not be there yet.
    pub fn at(folder: &Path) -> Self {
        let folder = folder.to_path_buf();
        Self { folder }
    }

    /// Every case with its file, in the order of the names.
    pub fn cases(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let read = || -> io::Result<Vec<_>> {
            let mut files = fs::read_dir(&self.folder)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()?;
            files.sort();
            files
                .into_iter()
                .map(|file| Ok((file.clone(), fs::read(file)?)))
                .collect()
        };
        read().with_context(|| format!("cannot read {}", self.folder.display()))
    }

    /// Keeps a case under a name, and tells its file.
    pub fn keep(&self, name: &str, case: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let write = || {
            fs::create_dir_all(&self.folder)?;
            fs::write(&path, case)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Keeps a case that broke a promise, so that it is run first from now on.
    pub fn keep_found(&self, case: &[u8]) -> Result<PathBuf> {
        self.keep(&format!("found-{:08x}", crc32c::crc32c(case)), case)
    }
}
