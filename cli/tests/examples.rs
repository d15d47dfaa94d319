//! The three examples, compared with what the plain tools give.
#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kit::{Bench, Outcome};

/// Ten times what the largest example takes with a debug build.
const PATIENCE: Duration = Duration::from_mins(10);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

/// Runs a batch to its end.
fn run(bench: &Bench, file: &Path) -> Outcome {
    bench.start_file(file).wait_at_most(PATIENCE).expect(0);
    bench.assert_nothing_left();
    let outcome = bench.outcome();
    assert_eq!(outcome.failed, []);
    outcome
}

/// What a plain command prints with a file as its input.
fn plain(program: &str, arguments: &[&str], folder: &Path, input: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(File::open(input).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    output.stdout
}

/// The outputs in the order of numbers, each with an end.
fn outputs(outcome: &Outcome, end: &[u8]) -> Vec<u8> {
    let outputs = outcome.succeeded.iter().map(|line| [&line.bytes(), end].concat());
    outputs.collect::<Vec<_>>().concat()
}

fn assert_same(found: &[u8], plain: &[u8]) {
    let lines = |bytes: &[u8]| {
        bytes
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (found, plain) = (lines(found), lines(plain));
    assert_eq!(found.len(), plain.len());
    let differs = found.iter().zip(&plain).find(|(found, plain)| found != plain);
    assert!(differs.is_none(), "{differs:?}");
}

#[test]
fn checksums_are_what_sha256sum_says() {
    let folder = example("checksums");
    let outcome = run(&Bench::new(), &folder.join("batch.yaml"));
    let plain = plain("xargs", &["-d", "\n", "sha256sum"], &folder, &folder.join("files.txt"));
    assert!(outcome.succeeded.len() >= 50);
    assert_same(&outputs(&outcome, b""), &plain);
}

/// The text is all Rust code of this repository, and a line that has something to take out.
#[test]
fn the_filter_gives_what_sed_gives() {
    let bench = Bench::new();
    fs::copy(example("filter").join("batch.yaml"), bench.path("batch.yaml")).unwrap();
    let mut files = Vec::new();
    rust_files(&repository(), &mut files);
    files.sort();
    let mut text = b"by somebody@example.org, somebody.else@example.com\n".to_vec();
    text.extend(files.iter().flat_map(|file| fs::read(file).unwrap()));
    bench.write("text.txt", &text);
    let outcome = run(&bench, Path::new("batch.yaml"));
    let arguments = ["-E", "s/[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+/<address>/g"];
    let plain = plain("sed", &arguments, &bench.path(""), &bench.path("text.txt"));
    assert!(outcome.succeeded.len() > 10_000);
    assert_eq!(outcome.succeeded[0].bytes(), b"by <address>, <address>");
    assert_same(&outputs(&outcome, b"\n"), &plain);
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            rust_files(&path, files);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn the_closure_gives_what_factor_gives() {
    let bench = Bench::new();
    // The batch names its program by the way from its folder to cargo's.
    let folder = bench.path("examples/closure");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(example("closure").join("batch.yaml"), folder.join("batch.yaml")).unwrap();
    fs::create_dir_all(bench.path("target/release")).unwrap();
    std::os::unix::fs::symlink(built_closure(), bench.path("target/release/closure")).unwrap();
    let outcome = run(&bench, &folder.join("batch.yaml"));
    let numbers: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    bench.write("numbers", numbers.join("\n"));
    let plain = plain("factor", &[], &bench.path(""), &bench.path("numbers"));
    assert_same(&outputs(&outcome, b"\n"), &plain);
}

/// Builds the worker of the example as `harmony` itself was built, and says where it is.
fn built_closure() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_harmony")).parent().unwrap();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--package", "closure"]);
    // A build for a named target has one folder more.
    let mut target_dir = folder.parent().unwrap();
    let machine = target_dir.file_name().unwrap().to_str().unwrap();
    if machine.contains("-linux-") {
        build.args(["--target", machine]);
        target_dir = target_dir.parent().unwrap();
    }
    build.arg("--target-dir").arg(target_dir);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.current_dir(repository()).status().unwrap().success());
    folder.join("closure")
}
