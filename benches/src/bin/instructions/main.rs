//! Fixed amounts of work whose instructions are counted: `cargo xtask instructions` runs each under Valgrind.
//!
//! Nothing here reads a clock twice, draws a random number or does I/O, so that the same program counts the same.

mod batch;
mod codec;
mod log;
mod outcomes;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let subject = std::env::args().nth(1).unwrap_or_default();
    match subject.as_str() {
        // What starting and ending a program takes.
        "nothing" => {}
        "encode-tasks" => codec::encode_tasks(),
        "decode-tasks" => codec::decode_tasks()?,
        "encode-results" => codec::encode_results(),
        "decode-results" => codec::decode_results()?,
        "batch" => batch::run()?,
        "log" => log::run()?,
        other => bail!("there is no subject {other:?}; `cargo xtask instructions` knows them all"),
    }
    Ok(())
}
