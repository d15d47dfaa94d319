//! Adds to the corpora, and runs single cases: what a person or another engine needs beside `cargo test`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use harmony_fuzz::corpus::Corpus;
use harmony_fuzz::{TARGETS, check, target};

#[derive(Debug, Parser)]
#[command(name = "harmony-fuzz")]
enum Command {
    /// Writes the cases that the code makes to the corpora.
    Seeds,
    /// Adds files as cases to the corpus of a target.
    Add {
        /// guard, wire, log or yaml.
        target: String,
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Runs files as cases of a target, and panics if one breaks a promise.
    Run {
        /// guard, wire, log or yaml.
        target: String,
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> Result<()> {
    let known = |name: &str| target(name).with_context(|| format!("there is no target {name:?}"));
    let read = |file: &PathBuf| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    match Command::parse() {
        Command::Seeds => {
            for target in TARGETS {
                for (name, case) in (target.seeds)() {
                    Corpus::of(target).keep(&name, &case)?;
                }
            }
        }
        Command::Add { target, files } => {
            let corpus = Corpus::of(known(&target)?);
            for file in &files {
                println!("{}", corpus.keep_found(&read(file)?)?.display());
            }
        }
        Command::Run { target, files } => {
            let target = known(&target)?;
            for file in &files {
                println!("{}: {}", file.display(), check(target, &read(file)?).join(", "));
            }
        }
    }
    Ok(())
}
