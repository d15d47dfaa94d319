//! Finds the program of a command and says clearly why it cannot run.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Read,
    os::unix::{ffi::OsStringExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::fs::Access;

use super::Setup;
use crate::shortage::way_out;

/// Where programs are searched when PATH is not set, as execvp does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// Bytes of a script's first line that are looked at; the kernel reads no more.
const SHEBANG_MOST: u64 = 256;

/// A command whose program was found and may be executed.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    name: String,
    arguments: Vec<String>,
    folder: PathBuf,
    batch: String,
    uid: String,
}

impl Program {
    /// Finds the command's program, as a shell would.
    pub(super) fn resolve(command: &[String], setup: &Setup) -> Result<Self, String> {
        let (name, arguments) = match command.split_first() {
            Some((name, arguments)) if !name.is_empty() => (name, arguments),
            _ => return Err("the executor's command is empty: name a program".to_owned()),
        };
        if let Some(text) = command.iter().find(|text| text.contains('\0')) {
            return Err(format!(
                "the executor's command holds {text:?}: a NUL byte cannot be passed to a program"
            ));
        }
        let folder = folder(setup)?;
        let path = if name.contains('/') {
            folder.join(name)
        } else {
            search(name, &folder)?
        };
        check(name, &path, &folder)?;
        Ok(Self {
            path,
            name: name.clone(),
            arguments: arguments.to_vec(),
            folder,
            batch: setup.batch.replace('\0', ""),
            uid: setup.uid.to_string(),
        })
    }

    /// The command, in a process group of its own and with pipes.
    ///
    /// The path is absolute, so that PATH is not searched again for each task, and there is no `pre_exec` hook, so that
    /// the standard library uses `posix_spawn`.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env("HARMONY_BATCH", &self.batch)
            .env("HARMONY_UID", &self.uid)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Why a start of the program failed just now, for people.
    pub(super) fn explain(&self, error: &std::io::Error) -> String {
        match check(&self.name, &self.path, &self.folder) {
            Err(reason) => reason,
            Ok(()) => format!(
                "{:?} ({}) cannot be started: {error}{}",
                self.name,
                self.path.display(),
                way_out(error)
            ),
        }
    }

    /// What people should know when a filter has not answered its first line for `waited`.
    pub(super) fn silence(&self, waited: Duration) -> String {
        format!(
            "{:?} was sent lines and has answered none for {} s: unless a line takes that long, it buffers its output. Flush \
             after each line, or start it as `stdbuf -oL {} ...` (for Python: `python -u`)",
            self.name,
            waited.as_secs(),
            self.name
        )
    }

    /// The command as the batch names it, for people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

fn folder(setup: &Setup) -> Result<PathBuf, String> {
    let current = env::current_dir().map_err(|error| format!("the current folder cannot be read: {error}"))?;
    let folder = setup
        .work_dir
        .as_ref()
        .map_or_else(|| current.clone(), |folder| current.join(folder));
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(format!(
            "the working folder {} does not exist or is not a folder",
            folder.display()
        ))
    }
}

/// Looks the name up in PATH; a file that may be executed wins over an earlier one that may not.
fn search(name: &str, folder: &Path) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    let found: Vec<_> = env::split_paths(&path)
        .map(|at| folder.join(at).join(name))
        .filter(|file| file.is_file())
        .collect();
    found.iter().find(|file| is_executable(file)).or(found.first()).cloned().ok_or_else(|| {
        format!(
            "the executor's command {name:?} was not found in PATH ({}): install it where the worker runs, or give its full path",
            path.display()
        )
    })
}

/// Checks that the file exists, may be executed, and that the interpreter which its first line names may be, too.
fn check(name: &str, path: &Path, folder: &Path) -> Result<(), String> {
    let shown = path.display();
    let metadata = fs::metadata(path)
        .map_err(|error| format!("the executor's command {name:?} cannot be run: {shown}: {error}; check its path"))?;
    if !metadata.is_file() {
        return Err(format!(
            "the executor's command {name:?} cannot be run: {shown} is not a file"
        ));
    }
    if !is_executable(path) {
        return Err(format!(
            "the executor's command {name:?} cannot be run: permission denied: {shown} is not executable; try `chmod +x {shown}`"
        ));
    }
    match interpreter(path) {
        Some(interpreter) if !is_executable(&folder.join(&interpreter)) => Err(format!(
            "the executor's command {name:?} cannot be run: the first line of {shown} names the interpreter {}, which is missing \
             or not executable",
            interpreter.display()
        )),
        _ => Ok(()),
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// The interpreter after `#!`, if there is one. A program that may be executed but not read has none that we can see.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(SHEBANG_MOST).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line
        .trim_ascii_start()
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .next()?;
    (!word.is_empty()).then(|| PathBuf::from(OsString::from_vec(word.to_vec())))
}
