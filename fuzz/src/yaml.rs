//! The file of a batch: whatever it holds, `parse` gives a batch within all limits, or says what is wrong and where.

use std::fs;
use std::path::Path;

use harmony_api::{InvalidBatch, Tasks, ValidatedBatch, limits, parse};

use crate::{Goal, Target};

/// A case is the file.
pub(crate) const TARGET: Target = Target {
    name: "yaml",
    seeds,
    words: &[
        b"&a ",
        b"*a",
        b"*a, *a",
        b"<<: *a\n",
        b"!!binary ",
        b"!!int ",
        b"---\n",
        b"...\n",
        b"? ",
        b"- ",
        b"[",
        b"[[[[[[[[",
        b"{",
        b"{a: ",
        b"|2\n",
        b">-\n",
        b"\"",
        b"'",
        b"\\",
        b"\n",
        b"\n  ",
        b"\t",
        b"#",
        b"~",
        b".inf",
        b"0x7f",
        b"1Gi",
        b"1e9",
        b"  tasks: {items: [a, b]}\n",
        b"  tasks: {lines: {url: \"https://a/b\"}}\n",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
    ],
    in_parts: false,
    run,
    memory,
    goals: &[
        Goal {
            depth: "valid",
            percent: 8,
        },
        Goal {
            depth: "refused by the schema",
            percent: 10,
        },
        Goal {
            depth: "refused as YAML",
            percent: 10,
        },
    ],
    cases: 3_000,
};

/// What the schema of the file takes while it is made, in bytes; most of it is the pod template.
const SCHEMA: u64 = 8 << 20;
/// Bytes of memory for each byte of the file: a flow list spends two bytes on an entry that becomes a node with a place.
const PER_BYTE: u64 = 512;
/// Bytes of all messages together.
const MESSAGES: usize = 1 << 20;

fn memory(case: usize) -> u64 {
    SCHEMA + PER_BYTE * case as u64
}

fn run(case: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(case);
    match parse(&text, "batch.yaml") {
        Ok(batch) => {
            check_batch(&batch);
            vec!["valid"]
        }
        Err(refusal) => {
            check_refusal(&refusal);
            let whole = |problem: &harmony_api::Problem| problem.path == harmony_api::FieldPath::default();
            if refusal.problems.iter().all(whole) {
                vec!["refused as YAML"]
            } else {
                vec!["refused by the schema"]
            }
        }
    }
}

fn check_batch(batch: &ValidatedBatch) {
    let name = batch.name.as_str();
    assert!(
        (1..=253).contains(&name.len()) && !name.contains(['/', '\0']),
        "{name:?}"
    );
    assert!(batch.completions.is_none_or(|count| count <= limits::MAX_COMPLETIONS));
    assert!((1..=limits::MAX_PARALLELISM).contains(&batch.parallelism));
    assert!((1..=limits::MAX_SLOTS).contains(&batch.slots_per_worker));
    assert!(batch.backoff_limit_per_index <= limits::MAX_BACKOFF);
    assert!(batch.max_bytes_per_task <= limits::MAX_OUTPUT);
    for deadline in [batch.active_deadline, batch.active_deadline_per_index]
        .into_iter()
        .flatten()
    {
        assert!(deadline.as_secs() <= limits::MAX_SECONDS, "{deadline:?}");
    }
    match &batch.tasks {
        Tasks::Items(items) => {
            assert!(items.len() <= limits::MAX_ITEMS);
            assert!(batch.completions.is_none_or(|count| count == items.len() as u64));
        }
        Tasks::Range => assert!(batch.completions.is_some(), "a range without an end"),
        Tasks::Url(url) => assert!(matches!(url.scheme(), "http" | "https"), "{url}"),
        Tasks::Path(_) => {}
        Tasks::ConfigMap { .. } | Tasks::Text { .. } => panic!("{:?} is for Kubernetes alone", batch.tasks),
    }
    let command = batch.executor.command().expect("a command of its own");
    assert!(!command.program.is_empty() && command.arguments.len() < limits::MAX_COMMAND);
}

fn check_refusal(refusal: &InvalidBatch) {
    assert!((1..=limits::MAX_PROBLEMS).contains(&refusal.problems.len()));
    assert!(refusal.problems.iter().all(|problem| !problem.message.is_empty()));
    let length = refusal.to_string().len();
    assert!(length <= MESSAGES, "the answer has {length} bytes");
}

/// The examples, and a file with every field.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let example = |name: &str| {
        let path = examples.join(name).join("batch.yaml");
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (name.to_owned(), text)
    };
    let mut seeds: Vec<_> = ["checksums", "closure", "filter"].map(example).into();
    seeds.extend(OTHERS.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
    seeds
}

const OTHERS: [(&str, &str); 4] = [
    (
        "every-field",
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata:\n  name: b\n  namespace: n\n  labels: {a: b}\n\
         spec:\n  completions: 2\n  parallelism: 4\n  slotsPerWorker: 5\n  backoffLimitPerIndex: 0\n  maxFailedIndexes: 6\n  \
         activeDeadlineSeconds: 7\n  activeDeadlineSecondsPerIndex: 8\n  results: {maxBytesPerTask: 1Ki}\n  \
         tasks: {items: [a, '2']}\n  executor: {process: {command: [tr, a-z, A-Z], framing: lines}}\n",
    ),
    (
        "range",
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {name: r}\nspec:\n  completions: 3\n  \
         tasks: {range: {}}\n  executor: {exec: {command: [cat]}}\n",
    ),
    (
        "address",
        "{\"apiVersion\": \"harmony.dev/v1alpha1\", \"kind\": \"HarmonyBatch\", \"metadata\": {\"name\": \"u\"}, \"spec\":\n\
         {\"tasks\": {\"lines\": {\"url\": \"https://example.org/a?b=c\"}}, \"executor\": {\"library\": {\"command\": [\"./w\"]}}}}\n",
    ),
    (
        "anchors",
        "apiVersion: &v harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {name: &n anchors, annotations: {v: *v}}\nspec:\n  \
         completions: 2\n  tasks:\n    items:\n    - *n\n    - |\n      a text\n      of lines\n  executor:\n    exec:\n      \
         command: &c [echo, *n]\n",
    ),
];
