//! The folders in which ventilators keep tasks that can be read only once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use harmony_protocol::ids::BatchUid;
use uuid::Uuid;

/// A folder of its own for each ventilator: one that is still leaving may read that of the same batch.
pub(super) fn folder(spool_dir: &Path, batch: BatchUid) -> PathBuf {
    spool_dir.join(format!("{batch}_{}", Uuid::new_v4()))
}

/// Removes the folders of an earlier process: a volume outlives the process that is killed on it, and what nobody reads
/// would not be counted.
pub(crate) fn remove_leftovers(spool_dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(spool_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if is_ours(&entry.file_name().to_string_lossy()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Nothing else is touched: the folder may be one that a person named by mistake.
fn is_ours(name: &str) -> bool {
    let is_uuid = |word: &str| Uuid::try_parse(word).is_ok();
    name.split_once('_')
        .is_some_and(|(batch, ventilator)| is_uuid(batch) && is_uuid(ventilator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_left_is_removed_and_nothing_else() {
        let volume = tempfile::tempdir().unwrap();
        let left = folder(volume.path(), BatchUid(Uuid::new_v4()));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("tasks.part"), "task").unwrap();
        let others = ["lost+found", "a_b"].map(|name| volume.path().join(name));
        for other in &others {
            fs::create_dir(other).unwrap();
        }
        remove_leftovers(volume.path()).unwrap();
        assert!(!left.exists());
        assert!(others.iter().all(|other| other.exists()));
        remove_leftovers(&volume.path().join("missing")).unwrap();
    }
}
