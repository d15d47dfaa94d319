//! Programs that go on when this one has ended.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::layout::{Layout, Node};
use crate::context::works;

/// The variable by which a process is known as part of a cluster: a recorded id may have gone to another process.
const MARK: &str = "HARMONY_CLUSTER";

/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a killed process may take to be gone: it may be in the middle of a write.
const KILLED_WITHIN: Duration = Duration::from_secs(20);

/// Starts a program in a node's network, in a session of its own, with a log of its own; records its id.
pub(super) fn start<I, S>(layout: &Layout, node: &Node, name: &str, program: &Path, arguments: I) -> Result<()>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let log = layout.logs().join(format!("{name}.log"));
    let log = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
    // `nsenter`, since `ip netns exec` mounts a /sys without cgroups. Neither it nor `setsid` forks: the id is the program's.
    let child = Command::new("setsid")
        .args(["nsenter", &format!("--net=/run/netns/{}", node.namespace)])
        .arg(program)
        .args(arguments)
        .current_dir(&layout.folder)
        .env(MARK, layout.name())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{name} cannot be started"))?;
    fs::write(layout.processes().join(name), child.id().to_string())?;
    Ok(())
}

/// The recorded processes: name and id, whether they still run or not.
fn recorded(layout: &Layout) -> Vec<(String, u32)> {
    let files = fs::read_dir(layout.processes()).into_iter().flatten().flatten();
    let read = |file: fs::DirEntry| {
        let id = fs::read_to_string(file.path()).ok()?.trim().parse().ok()?;
        Some((file.file_name().to_string_lossy().into_owned(), id))
    };
    files.filter_map(read).collect()
}

/// The recorded processes that have ended.
pub(super) fn ended(layout: &Layout) -> Vec<String> {
    let ended = |(name, id): (String, u32)| (!is_ours(layout, id)).then_some(name);
    recorded(layout).into_iter().filter_map(ended).collect()
}

/// Kills what was recorded and still runs.
pub(super) fn kill_recorded(layout: &Layout) -> Result<()> {
    let ours: Vec<u32> = recorded(layout).into_iter().map(|(_, id)| id).collect();
    kill_all("components", || {
        ours.iter().copied().filter(|id| is_ours(layout, *id)).collect()
    })
}

/// Whether a process carries the cluster's mark. One that has ended but is not yet waited for carries none.
fn is_ours(layout: &Layout, id: u32) -> bool {
    let mark = format!("{MARK}={}", layout.name());
    fs::read(format!("/proc/{id}/environ")).is_ok_and(|environment| {
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
}

/// Kills what `find` finds until it finds nothing.
pub(super) fn kill_all(what: &str, find: impl Fn() -> Vec<u32>) -> Result<()> {
    wait_until(&format!("an end of all {what}"), KILLED_WITHIN, || {
        let found = find();
        for id in &found {
            works(Command::new("kill").args(["-KILL", &id.to_string()]));
        }
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("still there: {found:?}"))
        }
    })
}

/// Asks until the answer is good, or the time is up; then the last answer is the error.
pub(super) fn wait_until(what: &str, within: Duration, mut ask: impl FnMut() -> Result<(), String>) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let Err(last) = ask() else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("no {what} within {} s: {last}", within.as_secs());
        }
        thread::sleep(LOOK_AGAIN);
    }
}
