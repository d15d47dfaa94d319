//! Tasks from ranges, lists, files and pipes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail by it

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use harmony_api::Tasks;
use harmony_ventilator::source::{Opened, SourceConfig, SourceError, TaskSource, open};
use proptest::prelude::*;
use rustix::fs::{CWD, Mode, mkfifoat};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

fn config(folder: &Path) -> SourceConfig {
    SourceConfig::new(folder, folder.join("spool"))
}

fn payload(source: &mut dyn TaskSource, number: u64) -> Vec<u8> {
    let mut buffer = b"before".to_vec();
    let length = source.append(number, 0..u64::MAX, &mut buffer).unwrap();
    assert!(buffer.starts_with(b"before"), "what was in the buffer stays");
    assert_eq!(length, buffer.len() as u64 - 6);
    buffer.split_off(6)
}

fn payloads(source: &mut dyn TaskSource) -> Vec<Vec<u8>> {
    (0..source.completions())
        .map(|number| payload(source, number))
        .collect()
}

/// Opens a file with these bytes. The folder must be kept for as long as the source is read.
fn lines_of(bytes: &[u8]) -> (TempDir, Opened) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("tasks.txt"), bytes).unwrap();
    let opened = open(&Tasks::Path("tasks.txt".into()), None, &config(folder.path())).unwrap();
    (folder, opened)
}

fn refused(tasks: &Tasks, completions: Option<u64>, config: &SourceConfig) -> String {
    open(tasks, completions, config).err().unwrap().to_string()
}

#[test]
fn a_range_gives_its_numbers() {
    let config = config(Path::new("."));
    let mut opened = open(&Tasks::Range, Some(1_000_000_000), &config).unwrap();
    assert_eq!(opened.source.completions(), 1_000_000_000);
    assert_eq!(payload(&mut *opened.source, 0), b"0");
    assert_eq!(payload(&mut *opened.source, 999_999_999), b"999999999");
    let beyond = opened
        .source
        .append(1_000_000_000, 0..u64::MAX, &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        beyond.to_string(),
        "there is no task 1000000000: the numbers end before 1000000000"
    );
    assert_eq!(
        refused(&Tasks::Range, None, &config),
        "spec.completions is missing, and tasks.range needs it"
    );
    let other = open(&Tasks::Range, Some(999_999_999), &config).unwrap();
    assert_ne!(opened.digest, other.digest);
}

/// A text of lines of these lengths, no two places of which look alike.
fn text_of(lengths: &[usize]) -> Vec<u8> {
    let letter = |at: usize, line: usize| b'0' + u8::try_from((at * 7 + at / 97 + line) % 64).unwrap();
    let bytes = |line: usize, length: usize| (0..length).map(move |at| letter(at, line));
    let lines = lengths.iter().enumerate();
    lines
        .flat_map(|(line, length)| bytes(line, *length).chain([b'\n']))
        .collect()
}

#[test]
fn long_lines_are_read_in_pieces() {
    const LONG: usize = 5_000_000;
    let lengths = [3, 70_000, LONG, 0, 1 << 20, (1 << 20) - 65_000, 9, LONG, 4];
    for is_terminated in [true, false] {
        let mut text = text_of(&lengths);
        if !is_terminated {
            text.pop();
        }
        let (_folder, mut opened) = lines_of(&text);
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').take(lengths.len()).collect();
        let source = &mut *opened.source;
        assert_eq!(source.completions(), lengths.len() as u64);
        // In order, and then backwards.
        for (number, line) in lines.iter().enumerate().chain(lines.iter().enumerate().rev()) {
            assert!(payload(source, number as u64) == *line, "line {number}");
        }
        for (begin, end) in [
            (0, 1),
            (999_999, 2_100_000),
            (1 << 20, 2 << 20),
            (4_999_999, 9_000_000),
            (LONG, LONG + 1),
        ] {
            let mut part = Vec::new();
            let length = source.append(7, begin as u64..end as u64, &mut part).unwrap();
            assert_eq!(length, LONG as u64);
            assert!(part == lines[7][begin..end.min(LONG)], "{begin} to {end}");
            assert_eq!(payload(source, 8), lines[8]);
        }
    }
}

#[test]
fn the_end_of_the_text_may_be_a_long_line_without_its_lf() {
    let mut text = text_of(&[2, 3_000_000]);
    text.pop();
    let (_folder, mut opened) = lines_of(&text);
    assert!(payload(&mut *opened.source, 1) == text[3..]);
}

#[test]
fn a_long_line_that_changed_in_its_middle_is_refused() {
    let text = text_of(&[2, 5_000_000, 2]);
    let (folder, mut opened) = lines_of(&text);
    let file = fs::File::options()
        .write(true)
        .open(folder.path().join("tasks.txt"))
        .unwrap();
    file.write_all_at(b"!", 3_000_000).unwrap();
    let source = &mut *opened.source;
    let mut part = b"before".to_vec();
    source.append(1, 0..1_000_000, &mut part).unwrap();
    part.truncate(6);
    let error = source.append(1, 2_000_000..4_000_000, &mut part).unwrap_err();
    assert!(
        matches!(error, SourceError::Changed { first: 1, last: 1, .. }),
        "{error}"
    );
    assert_eq!(part, b"before", "after an error the buffer is as it was");
    source.append(1, 4_500_000..5_000_000, &mut part).unwrap();
}

#[test]
fn a_range_and_a_list_are_cut_too() {
    let config = config(Path::new("."));
    let mut buffer = Vec::new();
    let mut range = open(&Tasks::Range, Some(20_000), &config).unwrap().source;
    assert_eq!(range.append(12_345, 1..3, &mut buffer).unwrap(), 5);
    let mut items = open(&Tasks::Items(vec!["abcdef".to_owned()]), None, &config)
        .unwrap()
        .source;
    assert_eq!(items.append(0, 4..9, &mut buffer).unwrap(), 6);
    assert_eq!(buffer, b"23ef");
}

#[test]
fn items_give_themselves() {
    let config = config(Path::new("."));
    let items = |list: &[&str]| Tasks::Items(list.iter().map(|&item| item.to_owned()).collect());
    let mut opened = open(&items(&["a", "", "b\nc"]), Some(3), &config).unwrap();
    assert_eq!(payloads(&mut *opened.source), [b"a".as_slice(), b"", b"b\nc"]);
    assert!(matches!(
        opened.source.append(3, 0..u64::MAX, &mut Vec::new()),
        Err(SourceError::NoSuchTask {
            number: 3,
            completions: 3
        })
    ));
    assert_eq!(
        refused(&items(&["a"]), Some(2), &config),
        "spec.completions is 2, but spec.tasks.items holds 1 entries; make them equal, or leave completions out"
    );
    let digest = |list| open(&items(list), None, &config).unwrap().digest;
    assert_ne!(digest(&["ab"]), digest(&["a", "b"]));
    assert_ne!(digest(&["a", "b"]), digest(&["b", "a"]));
    assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
}

#[test]
fn a_line_loses_only_its_line_feed() {
    let cases: [(&[u8], &[&[u8]]); 7] = [
        (b"", &[]),
        (b"\n", &[b""]),
        (b"a", &[b"a"]),
        (b"a\n", &[b"a"]),
        (b"a\nb", &[b"a", b"b"]),
        (b"\n\n x \r\n\t", &[b"", b"", b" x \r", b"\t"]),
        (b"\0\xff\xfe\n\x80", &[b"\0\xff\xfe", b"\x80"]),
    ];
    for (bytes, lines) in cases {
        let (_folder, mut opened) = lines_of(bytes);
        assert_eq!(payloads(&mut *opened.source), lines, "{bytes:?}");
    }
}

#[test]
fn the_digest_of_lines_is_the_hash_of_the_file() {
    let (_folder, opened) = lines_of(b"a\nb\n");
    assert_eq!(opened.digest, <[u8; 32]>::from(Sha256::digest(b"a\nb\n")));
}

#[test]
fn completions_must_be_what_the_file_holds() {
    let (folder, _) = lines_of(&b"x\n".repeat(97));
    let path = folder.path().join("tasks.txt");
    let tasks = Tasks::Path(path.clone());
    let expected = format!(
        "spec.completions is 100, but {} holds 97 lines; make them equal, or leave completions out",
        path.display()
    );
    assert_eq!(refused(&tasks, Some(100), &config(folder.path())), expected);
    assert_eq!(
        open(&tasks, Some(97), &config(folder.path()))
            .unwrap()
            .source
            .completions(),
        97
    );
}

#[test]
fn a_file_without_line_breaks_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tasks.txt");
    fs::File::create(&path).unwrap().set_len(5 << 29).unwrap();
    let message = refused(&Tasks::Path(path), None, &config(folder.path()));
    assert!(
        message.contains("holds a line of more than 2147483648 bytes at byte 0"),
        "{message}"
    );
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let message = refused(&Tasks::Path("nowhere.txt".into()), None, &config(folder.path()));
    assert!(
        message.starts_with("cannot open ") && message.contains("nowhere.txt: No such file"),
        "{message}"
    );
    let message = refused(&Tasks::Path(".".into()), None, &config(folder.path()));
    assert!(message.contains("it is a folder"), "{message}");
}

/// A file of many blocks, each line its own number.
fn numbered_lines() -> Vec<u8> {
    (0..200_000)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect()
}

#[test]
fn a_changed_file_is_noticed_and_gives_no_wrong_line() {
    let bytes = numbered_lines();
    let (folder, mut opened) = lines_of(&bytes);
    let path = folder.path().join("tasks.txt");
    assert_eq!(payload(&mut *opened.source, 0), b"0");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let middle = bytes.len() / 2;
    file.write_all_at(b"#", middle as u64).unwrap();

    let mut failures = 0;
    for number in 0..200_000 {
        let mut buffer = Vec::new();
        match opened.source.append(number, 0..u64::MAX, &mut buffer) {
            Ok(_) => assert_eq!(buffer, number.to_string().into_bytes()),
            Err(SourceError::Changed { first, last, .. }) => {
                assert!((first..=last).contains(&number));
                assert!(buffer.is_empty());
                failures += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        (1..200_000 / 2).contains(&failures),
        "{failures} lines of one block are lost"
    );

    file.set_len(middle as u64).unwrap();
    let message = opened
        .source
        .append(150_000, 0..u64::MAX, &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(message.contains("changed while the batch ran: lines "), "{message}");
}

#[test]
fn a_file_that_grows_or_is_replaced_stays_what_it_was() {
    let (folder, mut opened) = lines_of(b"a\nb");
    let path = folder.path().join("tasks.txt");
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"c\nd\n")
        .unwrap();
    assert_eq!(payloads(&mut *opened.source), [b"a", b"b"]);
    let next = folder.path().join("next");
    fs::write(&next, b"x\ny\nz\n").unwrap();
    fs::rename(&next, &path).unwrap();
    assert_eq!(payloads(&mut *opened.source), [b"a", b"b"]);
}

/// A pipe into which `bytes` are written once.
fn pipe(folder: &Path, bytes: &'static [u8]) -> (PathBuf, thread::JoinHandle<()>) {
    let path = folder.join("pipe");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    let writer = {
        let path = path.clone();
        thread::spawn(move || {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .write_all(bytes)
                .unwrap();
        })
    };
    (path, writer)
}

#[test]
fn a_pipe_is_written_down_and_read_again_without_it() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let (path, writer) = pipe(folder.path(), b"a\n\xff\n");
    let tasks = Tasks::Path(path.clone());
    let mut opened = open(&tasks, Some(2), &config).unwrap();
    writer.join().unwrap();
    assert_eq!(payloads(&mut *opened.source), [b"a", b"\xff"]);

    // Nobody writes into the pipe any more: only what was written down can answer.
    let mut again = open(&tasks, Some(2), &config).unwrap();
    assert_eq!(again.digest, opened.digest);
    fs::remove_file(&path).unwrap();
    assert_eq!(payloads(&mut *again.source), [b"a", b"\xff"]);
    assert_eq!(open(&tasks, None, &config).unwrap().digest, opened.digest);
}

#[test]
fn a_damaged_or_foreign_spool_is_refused() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let (path, writer) = pipe(folder.path(), b"a\nb\n");
    let tasks = Tasks::Path(path);
    open(&tasks, None, &config).unwrap();
    writer.join().unwrap();

    let other = refused(&Tasks::Url("http://127.0.0.1:9/tasks".parse().unwrap()), None, &config);
    assert!(
        other.contains("tasks.json was written from ") && other.contains("not from http://127.0.0.1:9/tasks"),
        "{other}"
    );

    fs::write(config.spool_dir.join("tasks.lines"), b"a\nc\n").unwrap();
    let damaged = refused(&tasks, None, &config);
    assert!(damaged.contains("tasks.lines is damaged"), "{damaged}");
}

#[test]
fn an_endless_pipe_is_cut_at_the_limit() {
    let folder = TempDir::new().unwrap();
    let config = SourceConfig {
        max_spool_bytes: 1_000_000,
        ..config(folder.path())
    };
    let message = refused(&Tasks::Path("/dev/zero".into()), None, &config);
    assert!(
        message.starts_with("/dev/zero holds more than 1000000 bytes"),
        "{message}"
    );
    assert_eq!(
        fs::read_dir(&config.spool_dir).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_file_read_in_any_order_gives_its_lines(
        lines in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 1_usize..200), 0..400),
        ends_with_line_feed: bool,
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
    ) {
        // Repeated, so that many cases have several blocks.
        let clean = |line: &[u8]| -> Vec<u8> { line.iter().map(|&byte| if byte == b'\n' { 0 } else { byte }).collect() };
        let mut bytes: Vec<u8> = lines.iter().flat_map(|(line, times)| [clean(line), vec![b'\n']].concat().repeat(*times)).collect();
        if !ends_with_line_feed {
            bytes.pop();
        }
        let mut expected: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
        if bytes.is_empty() || bytes.ends_with(b"\n") {
            expected.pop();
        }
        let (_folder, mut opened) = lines_of(&bytes);
        prop_assert_eq!(opened.source.completions(), expected.len() as u64);
        for (number, line) in expected.iter().enumerate() {
            prop_assert_eq!(&payload(&mut *opened.source, number as u64), line);
        }
        for index in order.iter().filter(|_| !expected.is_empty()) {
            let number = index.index(expected.len());
            prop_assert_eq!(&payload(&mut *opened.source, number as u64), expected[number]);
        }
    }
}

#[test]
fn a_text_gives_what_a_file_of_it_gives() {
    for text in ["", "\n", "a", "a\nb\n", "a\n\n b\r\nc"] {
        let (_folder, mut file) = lines_of(text.as_bytes());
        let tasks = Tasks::Text {
            origin: "the ConfigMap".to_owned(),
            text: text.to_owned(),
        };
        let mut opened = open(&tasks, None, &config(Path::new("."))).unwrap();
        assert_eq!(payloads(&mut *opened.source), payloads(&mut *file.source), "{text:?}");
        assert_eq!(opened.digest, file.digest, "{text:?}");
        let message = refused(&tasks, Some(7), &config(Path::new(".")));
        assert!(
            message.starts_with("spec.completions is 7, but the ConfigMap holds "),
            "{message}"
        );
    }
}
