//! How the program ends: scripts rely on these codes.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All tasks succeeded.
    Succeeded = 0,
    /// Some tasks failed, or the batch ended early by its own rules.
    Failed = 1,
    /// The input is wrong.
    BadInput = 2,
    /// Something outside the tasks is broken; the same command may resume.
    Infrastructure = 3,
    /// Ended by Ctrl-C; the same command resumes.
    Cancelled = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends early, for people, and how.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What happened, and the way out.
    pub(crate) message: String,
}

impl Failure {
    /// The input is wrong.
    pub(crate) fn bad_input(message: impl fmt::Display) -> Self {
        Self {
            exit: Exit::BadInput,
            message: message.to_string(),
        }
    }

    /// Something outside the tasks is broken.
    pub(crate) fn infrastructure(message: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Infrastructure,
            message: message.to_string(),
        }
    }
}

/// Says something on standard error. Nobody may be there any more to read it, such as a terminal that was closed: that
/// must not end anything.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
