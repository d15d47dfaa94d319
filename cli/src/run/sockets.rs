//! The folder for the sockets of a run, short enough for their paths, and gone when the run is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use harmony_transport::Endpoint;
use harmony_worker::parent::{GONE, OWNER_FILE, remove_folder};

use crate::exit::Failure;

/// Behind it come the process that makes the folder, and some random letters.
const PREFIX: &str = "harmony-";

/// The folder.
pub(crate) struct Sockets {
    dir: tempfile::TempDir,
    _owner: File,
}

impl Sockets {
    /// Makes the folder, and removes those of runs that were killed together with all their parts.
    pub(crate) fn create() -> Result<Self, Failure> {
        sweep_abandoned();
        let base = std::env::temp_dir();
        let refused = |error| {
            let base = base.display();
            Failure::infrastructure(format!(
                "no folder for sockets can be made in {base}: {error}; set TMPDIR to another one"
            ))
        };
        // TempDir has mode 0700.
        let dir = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(&base)
            .map_err(refused)?;
        // Locked before it has its name: a run that sweeps just now must not take the folder for abandoned.
        let unnamed = dir.path().join("unnamed");
        let owner = File::create(&unnamed).map_err(refused)?;
        owner.try_lock().map_err(|error| refused(error.into()))?;
        fs::rename(&unnamed, dir.path().join(OWNER_FILE)).map_err(refused)?;
        Ok(Self { dir, _owner: owner })
    }

    /// Where the metrics of a part are.
    pub(crate) fn metrics(&self, part: &str) -> PathBuf {
        self.dir.path().join(format!("{part}.m"))
    }

    /// The endpoint of a part.
    pub(crate) fn endpoint(&self, part: &str) -> Endpoint {
        Endpoint::Unix(self.dir.path().join(part))
    }
}

/// What was killed while this run went on may have left its folder: a part that leaves does not see that the last other
/// one is killed next. If this run is killed just now, the next one sees by the name that the folder was being removed.
impl Drop for Sockets {
    fn drop(&mut self) {
        sweep_abandoned();
        remove_folder(self.dir.path());
    }
}

/// Removes the folders of runs that were killed.
pub(crate) fn sweep_abandoned() {
    sweep(&std::env::temp_dir());
}

fn sweep(base: &Path) {
    let me = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for dir in ours.map(|entry| entry.path()) {
        if is_abandoned(&dir, me) {
            remove_folder(&dir);
        }
    }
}

/// Whether a folder belongs to this user and its owner is dead.
fn is_abandoned(dir: &Path, me: u32) -> bool {
    let Ok(metadata) = fs::symlink_metadata(dir) else {
        return false;
    };
    if !metadata.is_dir() || metadata.uid() != me {
        return false;
    }
    if dir.as_os_str().as_encoded_bytes().ends_with(GONE.as_bytes()) {
        return true;
    }
    if let Ok(owner) = File::open(dir.join(OWNER_FILE)) {
        // Shared, since a part that leaves just now looks in the same way.
        return owner.try_lock_shared().is_ok();
    }
    // It is just being made, or whoever made or removed it was killed.
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    !maker_lives(dir) && !entries.any(|entry| answers(&entry))
}

fn maker_lives(dir: &Path) -> bool {
    let name = dir.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    // Process numbers come again, also for threads: one with another name is not the maker.
    let called = |process: &str| fs::read(format!("/proc/{process}/comm")).ok();
    // Whoever calls a folder of his own so keeps it.
    maker.is_none_or(|pid| pid.parse::<u32>().is_err() || called(pid).is_some_and(|name| Some(name) == called("self")))
}

fn answers(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_socket()) && UnixStream::connect(entry.path()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn folders_of_the_dead_are_swept_and_no_others() {
        let base = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        // No process has this number.
        let (nobody, me) = (u32::MAX, std::process::id());
        let dead = folder("harmony-1-dead");
        fs::write(dead.join(OWNER_FILE), "").unwrap();
        let number_came_again = folder("harmony-1-half");
        let half_made = folder(&format!("harmony-{nobody}-half"));
        fs::write(half_made.join("unnamed"), "").unwrap();
        let made_again = folder(&format!("harmony-{nobody}-again"));
        drop(UnixListener::bind(made_again.join("worker")).unwrap());
        let half_removed = folder(&format!("harmony-{me}-old{GONE}"));
        drop(UnixListener::bind(half_removed.join("worker")).unwrap());
        let answering = folder(&format!("harmony-{nobody}-answering"));
        let _worker = UnixListener::bind(answering.join("worker")).unwrap();
        let owned = folder(&format!("harmony-{nobody}-owned"));
        let owner = File::create(owned.join(OWNER_FILE)).unwrap();
        owner.lock().unwrap();
        let being_made = folder(&format!("harmony-{me}-new"));
        let strange = [folder("harmony-notes"), folder("another")];
        sweep(base.path());
        assert!(
            [dead, half_made, made_again, half_removed, number_came_again]
                .iter()
                .all(|path| !path.exists())
        );
        assert!(
            [answering, owned, being_made]
                .iter()
                .chain(&strange)
                .all(|path| path.exists())
        );
    }
}
