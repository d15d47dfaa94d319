//! Whether the kernel killed a process for want of memory, as far as the cgroup tells.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use harmony_protocol::limits::LOG_TAIL;
use rustix::process::Signal;

/// Where cgroups are mounted. In a container that is its own one.
const ROOT: &str = "/sys/fs/cgroup";
/// A shell ends with 128 and the signal that killed its program.
const BY_SIGNAL: i32 = 128;

/// What goes before the last words of such a process, in a line of its own.
const NOTE: &str = "out of memory (OOMKilled): the kernel killed this process, or one that it started, since the container \
                    may not use more; raise resources.limits.memory of the worker's container, or lower slotsPerWorker\n";

/// What is known of the kernel's kills in this cgroup, for all slots of an executor.
#[derive(Debug)]
pub(super) struct OomKills {
    file: Option<PathBuf>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    kills: u64,
    /// When the last look found more than the one before.
    grown: Option<Instant>,
}

impl OomKills {
    /// Those of the cgroup that this process is in; none are ever told where that cannot be read.
    pub(super) fn of_this_process() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::told_by(places(&own).into_iter().find(|file| kills(file).is_some()))
    }

    fn told_by(file: Option<PathBuf>) -> Self {
        let kills = file.as_ref().and_then(kills).unwrap_or_default();
        Self {
            file,
            seen: Mutex::new(Seen { kills, grown: None }),
        }
    }

    /// The log of a process that began then and ended so, with the kernel's part in it.
    pub(super) fn note(&self, status: ExitStatus, began: Instant, log: Bytes) -> Bytes {
        if !self.explain(status, began) {
            return log;
        }
        let kept = log.len().saturating_sub(LOG_TAIL - NOTE.len());
        [NOTE.as_bytes(), log.get(kept..).unwrap_or_default()].concat().into()
    }

    /// Whether a process that ended so, and began then, was killed by SIGKILL while the kernel killed for want of memory.
    /// The file is read only after a SIGKILL: reading it for each task would cost the short ones much.
    fn explain(&self, status: ExitStatus, began: Instant) -> bool {
        let kill = Signal::KILL.as_raw();
        if status.signal() != Some(kill) && status.code() != Some(BY_SIGNAL + kill) {
            return false;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.file.as_ref().and_then(kills).unwrap_or(seen.kills);
        if now > seen.kills {
            *seen = Seen {
                kills: now,
                grown: Some(Instant::now()),
            };
        }
        // Several slots may lose their processes at once, and the first of them sees all kills.
        seen.grown.is_some_and(|grown| grown >= began)
    }
}

/// The files that may hold the number: of cgroup 2 or 1, in the process's own group or, as in containers, at the root.
fn places(own: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            places.push(format!("{ROOT}{group}/memory.events"));
        } else if controllers.split(',').any(|controller| controller == "memory") {
            places.push(format!("{ROOT}/memory{group}/memory.oom_control"));
        }
    }
    places.extend([
        format!("{ROOT}/memory.events"),
        format!("{ROOT}/memory/memory.oom_control"),
    ]);
    places.into_iter().map(PathBuf::from).collect()
}

/// The number of kills that the file tells.
fn kills(file: &PathBuf) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: i32 = 9;

    fn status(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn a_kill_is_explained_only_while_the_number_grows() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events");
        let write = |kills: u64| fs::write(&file, format!("low 0\noom 7\noom_kill {kills}\n")).unwrap();
        write(3);
        let began = Instant::now();
        let kernel = OomKills::told_by(Some(file.clone()));
        assert!(!kernel.explain(ExitStatus::from_raw(KILLED), began), "kills of before");
        write(4);
        assert!(!kernel.explain(ExitStatus::from_raw(15), began), "another signal");
        assert!(!kernel.explain(status(1), began), "an exit code of its own");
        assert!(kernel.explain(ExitStatus::from_raw(KILLED), began));
        assert!(kernel.explain(status(137), began), "another slot, at the same time");
        let later = Instant::now();
        assert!(
            !kernel.explain(ExitStatus::from_raw(KILLED), later),
            "killed by somebody else"
        );
    }

    #[test]
    fn the_note_goes_before_the_last_words_and_both_fit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events");
        fs::write(&file, "oom_kill 0\n").unwrap();
        let (began, kernel) = (Instant::now(), OomKills::told_by(Some(file.clone())));
        fs::write(&file, "oom_kill 1\n").unwrap();
        let log = Bytes::from([vec![b'.'; LOG_TAIL], b"last".to_vec()].concat());
        let noted = kernel.note(status(137), began, log);
        assert!(noted.starts_with(b"out of memory (OOMKilled)") && noted.ends_with(b".last"));
        assert_eq!(noted.len(), LOG_TAIL);
        assert_eq!(kernel.note(status(1), began, Bytes::from_static(b"x")), "x");
    }

    #[test]
    fn without_a_file_nothing_is_said() {
        let began = Instant::now();
        assert!(!OomKills::told_by(None).explain(ExitStatus::from_raw(KILLED), began));
    }

    #[test]
    fn both_kinds_of_cgroups_are_looked_for() {
        let found = places("4:memory:/kubepods/a\n3:cpu,cpuacct:/\n0::/b\n");
        let found: Vec<_> = found.iter().filter_map(|place| place.to_str()).collect();
        assert_eq!(
            found,
            [
                "/sys/fs/cgroup/memory/kubepods/a/memory.oom_control",
                "/sys/fs/cgroup/b/memory.events",
                "/sys/fs/cgroup/memory.events",
                "/sys/fs/cgroup/memory/memory.oom_control",
            ]
        );
    }
}
