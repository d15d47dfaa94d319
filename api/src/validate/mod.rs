//! From the resource as written to a [`ValidatedBatch`]: what a schema cannot say.

mod executor;
mod failure;
mod success;
mod tasks;

use std::fmt;
use std::time::Duration;

use crate::batch::{BatchName, ValidatedBatch};
use crate::limits::{DEFAULT_OUTPUT, MAX_LINE_OUTPUT, MAX_OUTPUT, MAX_PARALLELISM};
use crate::problem::FieldPath;
use crate::spec::{ExecutorSpec, HarmonyBatch, HarmonyBatchSpec, TasksSpec};

/// What is wrong with a field of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which field.
    pub path: FieldPath,
    /// What was found, what is allowed, and the way out.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Where a batch is to run. Some fields have a meaning at one place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Laptop,
    Cluster,
}

/// Checks a resource that the API server has taken, and fills in what is left to fill in.
pub fn validate_for_cluster(batch: &HarmonyBatch) -> Result<ValidatedBatch, Vec<Finding>> {
    validate(batch, Destination::Cluster)
}

/// Checks a resource from a file whose shape is right. The fields that only Kubernetes gives a meaning are named, unless
/// nothing works without them.
pub(crate) fn validate_for_laptop(batch: &HarmonyBatch) -> Result<ValidatedBatch, Vec<Finding>> {
    validate(batch, Destination::Laptop).map(|valid| ValidatedBatch {
        ignored: ignored(batch),
        ..valid
    })
}

fn validate(batch: &HarmonyBatch, destination: Destination) -> Result<ValidatedBatch, Vec<Finding>> {
    let spec = &batch.spec;
    let mut findings = Findings {
        destination,
        list: Vec::new(),
    };
    let name = findings.name(batch.metadata.name.as_deref().unwrap_or_default());
    let max_bytes_per_task = findings.output(spec);
    findings.completions(spec);
    findings.parallelism(spec.parallelism);
    findings.storage(spec);
    let pod_failure_policy = findings.pod_failure_policy(spec);
    let success_policy = findings.success_policy(spec);
    let tasks = findings.tasks(&spec.tasks);
    let executor = findings.executor(spec);
    match (
        name,
        max_bytes_per_task,
        success_policy,
        pod_failure_policy,
        tasks,
        executor,
    ) {
        (
            Some(name),
            Some(max_bytes_per_task),
            Some(success_policy),
            Some(pod_failure_policy),
            Some(tasks),
            Some(executor),
        ) if findings.list.is_empty() => Ok(ValidatedBatch {
            name,
            completions: spec.completions,
            parallelism: spec.parallelism,
            slots_per_worker: spec.slots_per_worker,
            backoff_limit_per_index: spec.backoff_limit_per_index,
            max_failed_indexes: spec.max_failed_indexes,
            backoff_limit: spec.backoff_limit,
            pod_failure_policy,
            success_policy,
            active_deadline: spec.active_deadline_seconds.map(Duration::from_secs),
            active_deadline_per_index: spec.active_deadline_seconds_per_index.map(Duration::from_secs),
            max_bytes_per_task,
            tasks,
            executor,
            ignored: Vec::new(),
        }),
        _ => Err(findings.list),
    }
}

/// Every check returns nothing only after it has added a finding.
struct Findings {
    destination: Destination,
    list: Vec<Finding>,
}

impl Findings {
    fn add<T>(&mut self, path: &[&str], message: impl Into<String>) -> Option<T> {
        self.add_at(FieldPath::of(path), message)
    }

    fn add_at<T>(&mut self, path: FieldPath, message: impl Into<String>) -> Option<T> {
        let message = message.into();
        self.list.push(Finding { path, message });
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
        let (most, whose) = match &spec.executor {
            Some(ExecutorSpec::Process(_)) => (
                MAX_LINE_OUTPUT,
                " with executor.process, which holds an answer in memory",
            ),
            _ => (MAX_OUTPUT, ""),
        };
        let bytes = written.bytes().filter(|bytes| (1..=most).contains(bytes));
        bytes.or_else(|| {
            let mebi = most >> 20;
            let message = format!("found {written}, expected 1 to {most} bytes, such as 16Mi; at most {mebi}Mi{whose}");
            self.add(&["spec", "results", "maxBytesPerTask"], message)
        })
    }

    fn completions(&mut self, spec: &HarmonyBatchSpec) {
        let path = ["spec", "completions"];
        match (&spec.tasks, spec.completions) {
            (TasksSpec::Range(_), None) => {
                self.add::<()>(
                    &path,
                    "missing; tasks.range needs it, since nothing else says how many tasks there are",
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

    fn parallelism(&mut self, parallelism: u32) {
        if self.destination == Destination::Laptop && parallelism == 0 {
            let message = format!(
                "found 0, expected 1 to {MAX_PARALLELISM}: here nothing runs without workers, only Kubernetes can raise it later"
            );
            self.add::<()>(&["spec", "parallelism"], message);
        }
    }

    fn storage(&mut self, spec: &HarmonyBatchSpec) {
        let storage = spec.collector.as_ref().and_then(|collector| collector.storage.as_ref());
        if let Some(size) = storage.map(|storage| &storage.size)
            && size.bytes().is_none_or(|bytes| bytes == 0)
        {
            let message = format!("found {size}, expected a whole number of bytes, such as 10Gi");
            self.add::<()>(&["spec", "collector", "storage", "size"], message);
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
        ("spec.suspend", spec.suspend.is_some()),
        (
            "spec.ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.is_some(),
        ),
        ("spec.progressDeadlineSeconds", spec.progress_deadline_seconds.is_some()),
        ("spec.backoffLimit", spec.backoff_limit.is_some()),
        ("spec.podFailurePolicy", spec.pod_failure_policy.is_some()),
        ("spec.managedBy", spec.managed_by.is_some()),
        ("spec.completionMode", spec.completion_mode.is_some()),
    ];
    fields
        .into_iter()
        .filter(|(_, there)| *there)
        .map(|(field, _)| field.to_owned())
        .collect()
}
