//! Instructions of the hot code, counted under Valgrind and compared with kept counts. Times on shared machines are noise;
//! instructions are not, as long as compiler and processor features are the same.
//!
//! Libraries choose code by what the processor can do (CRC-32C, memchr, memcpy). Valgrind hides the newest of it, such as
//! AVX-512, so that most x86-64 machines count alike.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::context::{Context, output, succeed, works};
use crate::step::Outcome;

/// What the program can be told to do; `nothing` is taken off the others.
const SUBJECTS: &[&str] = &[
    "encode-tasks",
    "decode-tasks",
    "encode-results",
    "decode-results",
    "batch",
    "log",
];
const START_UP: &str = "nothing";

/// How far a count may be from the kept one, in percent.
const TOLERANCE: u64 = 5;
/// The same where another compiler made the program: its own changes are in the count too.
const TOLERANCE_OF_ANOTHER_COMPILER: u64 = 15;

const ACCEPT: &str = "cargo xtask instructions --accept";

/// The file of kept counts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// What the program was built with: `rustc -vV`, its version and host.
    rustc: String,
    /// By subject.
    instructions: BTreeMap<String, u64>,
}

/// Counts and compares: a step of `test`.
pub(crate) fn check(context: &Context) -> Result<Outcome> {
    let kept = read(&file(context))?;
    let rustc = rustc(context)?;
    let Some(tolerance) = tolerance(&kept.rustc, &rustc, context.strict) else {
        return Ok(Outcome::Skipped(format!(
            "the kept counts are of {}, this is {rustc}: {ACCEPT}",
            kept.rustc
        )));
    };
    if !is_there(context) {
        return Ok(Outcome::Skipped(
            "valgrind missing: --install installs it, as root".to_owned(),
        ));
    }
    judge(&kept.instructions, &count(context)?, tolerance).map(Outcome::Passed)
}

/// Counts, prints, and keeps the counts if told so; else compares as the step does.
pub(crate) fn run(context: &Context, accept: bool) -> Result<ExitCode> {
    if !accept {
        return match check(context)? {
            Outcome::Passed(note) => {
                println!("{note}");
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Skipped(reason) => bail!(reason),
        };
    }
    ensure!(is_there(context), "valgrind is missing: apt-get install valgrind");
    let counts = Counts {
        rustc: rustc(context)?,
        instructions: count(context)?,
    };
    let text = serde_json::to_string_pretty(&counts)? + "\n";
    fs::write(file(context), &text).with_context(|| format!("{} cannot be written", file(context).display()))?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn is_there(context: &Context) -> bool {
    works(context.command("valgrind").arg("--version"))
}

fn file(context: &Context) -> PathBuf {
    context.root.join("benches/instructions.json")
}

fn read(path: &Path) -> Result<Counts> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} cannot be understood", path.display()))
}

/// How far counts may be apart; `None` if they say nothing about each other. In CI there is no skipping.
fn tolerance(kept: &str, now: &str, strict: bool) -> Option<u64> {
    if kept == now {
        Some(TOLERANCE)
    } else {
        strict.then_some(TOLERANCE_OF_ANOTHER_COMPILER)
    }
}

/// The compiler and the machine that it builds for.
fn rustc(context: &Context) -> Result<String> {
    let text = output(context.command("rustc").arg("-vV"))?;
    let field = |name| text.lines().find_map(|line: &str| line.strip_prefix(name));
    let (release, host) = (field("release: "), field("host: "));
    let (release, host) = release.zip(host).context("rustc -vV names no release and host")?;
    Ok(format!("{release} {host}"))
}

/// The instructions of each subject.
fn count(context: &Context) -> Result<BTreeMap<String, u64>> {
    let mut build = context.cargo_locked("build");
    // Flags of the environment would be counted too.
    build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    succeed(build.args(["--release", "--package=harmony-benches", "--bin=bench-instructions"]))?;
    let program = context.target.join("release/bench-instructions");
    let start_up = count_one(context, &program, START_UP)?;
    let subject = |name: &&str| {
        let counted = count_one(context, &program, name)?;
        Ok(((*name).to_owned(), counted.saturating_sub(start_up)))
    };
    SUBJECTS.iter().map(subject).collect()
}

fn count_one(context: &Context, program: &Path, subject: &str) -> Result<u64> {
    let mut valgrind = context.command("valgrind");
    valgrind.args([
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
        // To stdout, which the program does not use.
        "--log-fd=1",
    ]);
    let text = output(valgrind.arg(program).arg(subject))?;
    counted(&text).with_context(|| format!("valgrind says no count of {subject:?}: {text}"))
}

/// The number in a line such as `==7== I   refs:      1,234`; later versions of Valgrind write `I refs:`.
fn counted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (head, number) = line.split_once("refs:")?;
        head.trim_end().ends_with(" I").then_some(())?;
        number.trim().replace(',', "").parse().ok()
    })
}

/// What is to be said about the counts; an error if one has grown too much, or has none to be compared with.
fn judge(kept: &BTreeMap<String, u64>, counts: &BTreeMap<String, u64>, tolerance: u64) -> Result<String> {
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for (subject, count) in counts {
        let Some(before) = kept.get(subject).filter(|before| **before > 0) else {
            worse.push(format!("{subject}: nothing is kept, {count} now"));
            continue;
        };
        let percent = u128::from(*count) * 100;
        let line = || {
            format!(
                "{subject}: {before} kept, {count} now, {} of it",
                ratio(*before, *count)
            )
        };
        if percent > u128::from(*before) * u128::from(100 + tolerance) {
            worse.push(line());
        } else if percent < u128::from(*before) * u128::from(100 - tolerance) {
            better.push(line());
        }
    }
    let gone = kept.keys().filter(|subject| !counts.contains_key(*subject));
    worse.extend(gone.map(|subject| format!("{subject}: is kept and not counted")));
    if !worse.is_empty() {
        bail!(
            "more instructions than the kept ones and {tolerance} %; if that is meant: {ACCEPT}\n{}",
            worse.join("\n")
        );
    }
    if !better.is_empty() {
        return Ok(format!(
            "fewer instructions; to keep it so: {ACCEPT}\n{}",
            better.join("\n")
        ));
    }
    Ok(format!("{} counts within {tolerance} %", counts.len()))
}

/// To three places.
fn ratio(before: u64, now: u64) -> String {
    let thousandths = u128::from(now) * 1_000 / u128::from(before.max(1));
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn the_count_is_read_from_what_valgrind_says() {
        let older = "==41== Cachegrind\n==41== Command: x\n==41== \n==41== I   refs:      1,233,456\n";
        assert_eq!(counted(older), Some(1_233_456));
        assert_eq!(counted("==41== I refs:  77\n"), Some(77));
        assert_eq!(counted("==41== D   refs:  5\n==41== I1  misses: 3\n"), None);
        assert_eq!(counted("==41== I   refs:  many\n"), None);
    }

    #[test]
    fn growth_within_the_tolerance_passes_and_growth_beyond_it_fails() {
        let kept = counts(&[("a", 1_000), ("b", 2_000)]);
        assert_eq!(
            judge(&kept, &counts(&[("a", 1_050), ("b", 1_900)]), 5).unwrap(),
            "2 counts within 5 %"
        );
        let error = judge(&kept, &counts(&[("a", 1_051), ("b", 2_000)]), 5).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("a: 1000 kept, 1051 now, 1.051 of it"), "{text}");
        assert!(text.contains(ACCEPT) && !text.contains("b:"), "{text}");
        judge(&kept, &counts(&[("a", 1_051), ("b", 2_000)]), 15).unwrap();
    }

    #[test]
    fn a_fall_passes_and_is_told() {
        let note = judge(&counts(&[("a", 1_000)]), &counts(&[("a", 949)]), 5).unwrap();
        assert!(note.contains("a: 1000 kept, 949 now, 0.949 of it"), "{note}");
        assert!(note.contains(ACCEPT), "{note}");
    }

    #[test]
    fn each_subject_has_a_kept_count_and_the_other_way_round() {
        let (one, two) = (counts(&[("a", 1)]), counts(&[("a", 1), ("b", 1)]));
        assert!(
            judge(&one, &two, 5)
                .unwrap_err()
                .to_string()
                .contains("b: nothing is kept")
        );
        assert!(
            judge(&two, &one, 5)
                .unwrap_err()
                .to_string()
                .contains("b: is kept and not")
        );
    }

    #[test]
    fn another_compiler_is_compared_in_ci_alone_and_loosely() {
        assert_eq!(tolerance("1", "1", false), Some(5));
        assert_eq!(tolerance("1", "1", true), Some(5));
        assert_eq!(tolerance("1", "2", true), Some(15));
        assert_eq!(tolerance("1", "2", false), None);
    }

    #[test]
    fn the_kept_counts_are_of_the_subjects() {
        let context = Context::from_environment(false).unwrap();
        let kept = read(&file(&context)).unwrap();
        let subjects: Vec<_> = kept.instructions.keys().map(String::as_str).collect();
        let mut known = SUBJECTS.to_vec();
        known.sort_unstable();
        assert_eq!(subjects, known);
    }
}
