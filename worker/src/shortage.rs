//! What helps when the system has no more of something.

use std::io;

use rustix::io::Errno;

/// What helps when a process cannot be started, in words that follow those of the error; nothing if that is not known.
pub fn way_out(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            ": raise the limit of open files (ulimit -n), or lower spec.parallelism or spec.slotsPerWorker"
        }
        Some(Errno::AGAIN) => {
            ": raise the limit of processes (ulimit -u), or lower spec.parallelism or spec.slotsPerWorker"
        }
        _ => "",
    }
}
