//! Open files of sealed segments, at most so many that a process with a thousand descriptors has some left.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, DiskFile, Mode};

/// Files kept open.
const OPEN_FILES: usize = 64;

#[derive(Default)]
pub(crate) struct FileCache {
    files: Mutex<VecDeque<(PathBuf, Arc<dyn DiskFile>)>>,
}

impl FileCache {
    /// The open file, opened to read if it is not kept. The one that was not used for longest makes room.
    pub(crate) fn open(&self, disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = files
            .iter()
            .position(|(kept, _)| kept == path)
            .and_then(|at| files.remove(at));
        let entry = match kept {
            Some(entry) => entry,
            None => (path.to_path_buf(), disk.open(path, Mode::Read)?),
        };
        let file = Arc::clone(&entry.1);
        files.push_front(entry);
        files.truncate(OPEN_FILES);
        Ok(file)
    }

    /// Forgets a file whose name now belongs to another.
    pub(crate) fn forget(&self, path: &Path) {
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(kept, _)| kept != path);
    }
}
