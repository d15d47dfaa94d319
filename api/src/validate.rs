//! From the resource as written to a [`ValidatedBatch`]: what a schema cannot say.

use std::time::Duration;

use harmony_protocol::wire::Framing;
use url::Url;

use crate::batch::{BatchName, Command, Executor, Tasks, ValidatedBatch};
use crate::limits::{DEFAULT_OUTPUT, MAX_COMMAND_BYTES, MAX_OUTPUT};
use crate::problem::FieldPath;
use crate::spec::{ExecutorSpec, FramingSpec, HarmonyBatch, HarmonyBatchSpec, LinesSpec, TasksSpec};

/// What is wrong with which field.
pub(crate) type Finding = (FieldPath, String);

/// Checks a resource whose shape is right, and fills in what is left to fill in.
pub(crate) fn validate(batch: HarmonyBatch) -> Result<ValidatedBatch, Vec<Finding>> {
    let mut findings = Findings::default();
    let ignored = ignored(&batch);
    let spec = batch.spec;
    let name = findings.name(batch.metadata.name.as_deref().unwrap_or_default());
    let max_bytes_per_task = findings.output(&spec);
    findings.completions(&spec);
    let tasks = findings.tasks(spec.tasks);
    let executor = findings.executor(spec.executor);
    match (name, max_bytes_per_task, tasks, executor) {
        (Some(name), Some(max_bytes_per_task), Some(tasks), Some(executor)) if findings.0.is_empty() => {
            Ok(ValidatedBatch {
                name,
                completions: spec.completions,
                parallelism: spec.parallelism,
                slots_per_worker: spec.slots_per_worker,
                backoff_limit_per_index: spec.backoff_limit_per_index,
                max_failed_indexes: spec.max_failed_indexes,
                active_deadline: spec.active_deadline_seconds.map(Duration::from_secs),
                active_deadline_per_index: spec.active_deadline_seconds_per_index.map(Duration::from_secs),
                max_bytes_per_task,
                tasks,
                executor,
                ignored,
            })
        }
        _ => Err(findings.0),
    }
}

/// Every check returns nothing only after it has added a finding.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add<T>(&mut self, path: &[&str], message: String) -> Option<T> {
        self.0.push((FieldPath::of(path), message));
        None
    }

    fn name(&mut self, name: &str) -> Option<BatchName> {
        BatchName::new(name).or_else(|| {
            let allowed = "lowercase letters, digits, - and ., each part between dots beginning and ending with a letter or digit";
            let most = BatchName::MAX;
            self.add(&["metadata", "name"], format!("found {name:?}, expected 1 to {most} characters: {allowed}"))
        })
    }

    fn output(&mut self, spec: &HarmonyBatchSpec) -> Option<u64> {
        let Some(written) = &spec.results.max_bytes_per_task else {
            return Some(DEFAULT_OUTPUT);
        };
        let bytes = written.bytes().filter(|bytes| (1..=MAX_OUTPUT).contains(bytes));
        bytes.or_else(|| {
            let most = MAX_OUTPUT >> 20;
            let message = format!("found {written}, expected 1 to {MAX_OUTPUT} bytes, such as 16Mi; at most {most}Mi");
            self.add(&["spec", "results", "maxBytesPerTask"], message)
        })
    }

    fn completions(&mut self, spec: &HarmonyBatchSpec) {
        let path = ["spec", "completions"];
        match (&spec.tasks, spec.completions) {
            (TasksSpec::Range(_), None) => {
                self.add::<()>(
                    &path,
                    "missing; tasks.range needs it, since nothing else says how many tasks there are".into(),
                );
            }
            (TasksSpec::Items(items), Some(completions)) if completions != items.0.len() as u64 => {
                let held = items.0.len();
                let message = format!(
                    "found {completions}, but spec.tasks.items holds {held}; make them equal, or leave completions out"
                );
                self.add::<()>(&path, message);
            }
            _ => {}
        }
    }

    fn tasks(&mut self, tasks: TasksSpec) -> Option<Tasks> {
        match tasks {
            TasksSpec::Range(_) => Some(Tasks::Range),
            TasksSpec::Items(items) => Some(Tasks::Items(items.0)),
            TasksSpec::Lines(LinesSpec::Path(path)) => self.path(path),
            TasksSpec::Lines(LinesSpec::Url(url)) => self.url(&url),
        }
    }

    fn path(&mut self, path: String) -> Option<Tasks> {
        let field = ["spec", "tasks", "lines", "path"];
        if path == "-" {
            self.add(
                &field,
                "found \"-\", expected a path; /dev/stdin reads the standard input".into(),
            )
        } else if path.contains('\0') {
            self.add(&field, format!("found {path:?}, expected a path without a zero byte"))
        } else {
            Some(Tasks::Path(path.into()))
        }
    }

    fn url(&mut self, written: &str) -> Option<Tasks> {
        let field = ["spec", "tasks", "lines", "url"];
        match Url::parse(written) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Some(Tasks::Url(url)),
            Ok(url) if url.scheme() == "file" => self.add(
                &field,
                format!("found {written:?}, expected http:// or https://; for a file use tasks.lines.path"),
            ),
            Ok(_) => self.add(&field, format!("found {written:?}, expected http:// or https://")),
            Err(error) => self.add(&field, format!("found {written:?}, expected a URL: {error}")),
        }
    }

    fn executor(&mut self, executor: ExecutorSpec) -> Option<Executor> {
        Some(match executor {
            ExecutorSpec::Exec(exec) => Executor::Exec(self.command("exec", exec.command)?),
            ExecutorSpec::Process(process) => Executor::Process {
                command: self.command("process", process.command)?,
                framing: match process.framing {
                    FramingSpec::Lines => Framing::Lines,
                },
            },
            ExecutorSpec::Library(library) => Executor::Library(self.command("library", library.command)?),
        })
    }

    fn command(&mut self, executor: &str, command: Vec<String>) -> Option<Command> {
        let field = ["spec", "executor", executor, "command"];
        let bytes: usize = command.iter().map(String::len).sum();
        if bytes > MAX_COMMAND_BYTES {
            return self.add(
                &field,
                format!("found {bytes} bytes, expected at most {MAX_COMMAND_BYTES}"),
            );
        }
        if let Some(index) = command.iter().position(|argument| argument.contains('\0')) {
            let path = FieldPath::of(&field).entry(index);
            self.0
                .push((path, "holds a zero byte, which no program can be given".into()));
            return None;
        }
        let mut command = command.into_iter();
        match command.next().filter(|program| !program.is_empty()) {
            Some(program) => Some(Command {
                program,
                arguments: command.collect(),
            }),
            None => self.add(&field, "names no program; the first entry is the program to run".into()),
        }
    }
}

/// The fields that only Kubernetes gives a meaning, where they are there.
fn ignored(batch: &HarmonyBatch) -> Vec<String> {
    let (metadata, spec) = (&batch.metadata, &batch.spec);
    let fields = [
        ("metadata.namespace", metadata.namespace.is_some()),
        ("metadata.labels", metadata.labels.is_some()),
        ("metadata.annotations", metadata.annotations.is_some()),
        ("spec.template", spec.template.is_some()),
        ("spec.collector", spec.collector.is_some()),
        ("spec.podFailurePolicy", spec.pod_failure_policy.is_some()),
        ("spec.successPolicy", spec.success_policy.is_some()),
        ("spec.suspend", spec.suspend.is_some()),
        (
            "spec.ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.is_some(),
        ),
        ("spec.progressDeadlineSeconds", spec.progress_deadline_seconds.is_some()),
        ("spec.managedBy", spec.managed_by.is_some()),
        ("spec.completionMode", spec.completion_mode.is_some()),
    ];
    fields
        .into_iter()
        .filter(|(_, there)| *there)
        .map(|(field, _)| field.to_owned())
        .collect()
}
