//! `harmony top` before real runs: printed, and on a terminal of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

#[cfg(test)]
mod kit;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use kit::{Bench, PATIENCE, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

/// Leaves the page and shows what was there before.
const RESTORED: &str = "\x1b[?1049l";

fn bench() -> Bench {
    Bench::with(&json!({
        "completions": 5000, "parallelism": 1,
        "executor": {"exec": {"command": ["sh", "-c", "until test -e go; do sleep 0.05; done"]}},
    }))
}

fn top(bench: &Bench, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harmony"));
    command
        .args([&["top", "./out"], more].concat())
        .current_dir(bench.path(""))
        .env("KUBECONFIG", "nowhere");
    command
}

/// Waits until `harmony top` prints all of these on one page.
fn printed(bench: &Bench, said: &[&str]) {
    wait_for(&format!("{said:?}"), PATIENCE, || {
        let output = top(bench, &[]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        said.iter().all(|said| text.contains(said)).then_some(())
    });
}

#[test]
fn where_there_is_no_terminal_one_page_is_printed() {
    let bench = bench();
    let run = bench.start();
    let page = [
        "test in ./out",
        "[........................................] 0/5000 (0 %)",
        "1 of 1 workers ready",
        "Workers (1 of 1 ready)",
        "worker-0",
        "test is running",
        "Longest at workers",
    ];
    printed(&bench, &page);
    run.kill();
    bench.write("go", "");
    wait_for("its parts to end", PATIENCE, || bench.living().is_empty().then_some(()));
    printed(&bench, &["test is not done: no run is going on"]);
}

/// `harmony top` on a terminal.
struct Terminal {
    child: Child,
    keys: File,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(bench: &Bench) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master: OwnedFd = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(master.as_fd(), size).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = top(bench, &[])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .process_group(0)
            .spawn()
            .unwrap();
        let keys = File::from(master);
        let seen = Arc::<Mutex<String>>::default();
        let (mut screen, noted) = (keys.try_clone().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                noted.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { child, keys, seen }
    }

    fn wait_for(&self, text: &str) {
        wait_for(text, PATIENCE, || {
            self.seen.lock().unwrap().contains(text).then_some(())
        });
    }

    /// It ends in order, and the terminal is as it was.
    fn ends(mut self) {
        let status = wait_for("its end", PATIENCE, || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        self.wait_for(RESTORED);
    }
}

#[test]
fn a_terminal_is_as_it_was_after_a_key_and_after_a_signal() {
    let bench = bench();
    let run = bench.start();
    printed(&bench, &["Longest at workers"]);
    let mut terminal = Terminal::start(&bench);
    terminal.wait_for("Longest at workers");
    // All batches, which is this one, and back again.
    terminal.keys.write_all(b"\x1b").unwrap();
    terminal.wait_for("1 batch");
    terminal.keys.write_all(b"q").unwrap();
    terminal.ends();

    let terminal = Terminal::start(&bench);
    terminal.wait_for("Longest at workers");
    kill_process(Pid::from_child(&terminal.child), Signal::TERM).unwrap();
    terminal.ends();
    run.kill();
}
