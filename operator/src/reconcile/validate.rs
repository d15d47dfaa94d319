//! Second step, pure: everything the later steps need to know of a batch, in one value that is known to be sound.

use std::time::Duration;

use harmony_api::conditions::reason;
use harmony_api::spec::{CollectorSpec, HarmonyBatch};
use harmony_api::{BatchName, Tasks, ValidatedBatch, validate_for_cluster};
use harmony_protocol::ids::BatchUid;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::build::Names;
use super::dereference::Dereferenced;
use super::launch::write_digest;
use super::template::Template;

/// Characters of a revision: 40 bits tell the few revisions of one batch apart.
const REVISION: usize = 10;
/// Bytes of a message: the API server takes 32,768 in a condition, and nobody reads more than this.
const MAX_MESSAGE: usize = 4_096;

/// Bytes of one argument that Linux gives to a program: 128 KiB less the zero byte at its end.
const MAX_ARGUMENT: usize = 131_071;

/// Why a batch cannot run as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Only an object that no API server has seen lacks these.
    #[error("metadata.{0} is missing or not as the API server writes it")]
    Metadata(&'static str),
    /// Each problem names its field, what was found, and the way out.
    #[error("{}", told(.0))]
    Spec(Vec<String>),
}

impl Error {
    /// The reason for the condition and the event.
    pub fn reason(&self) -> &'static str {
        reason::INVALID_SPEC
    }
}

/// A batch that can run: the single input of the later steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The batch as the owner of its objects.
    pub owner: OwnerReference,
    /// Where all of its objects are.
    pub namespace: String,
    /// The batch's identity, also in the protocol.
    pub uid: BatchUid,
    /// The generation of the resource that this is.
    pub generation: i64,
    /// The names of its objects.
    pub names: Names,
    /// What to run. No task comes from a `ConfigMap` any more: its text is here.
    pub spec: ValidatedBatch,
    /// The executor as START and the worker's command line have it, in JSON.
    pub executor: String,
    /// The pods of the workers.
    pub template: Template,
    /// Tells worker pods apart that were made from another template or executor.
    pub revision: String,
    /// The pod of the collector.
    pub collector: CollectorSpec,
    /// Whether the workers are to be stopped.
    pub suspend: bool,
    /// After how long without progress the batch is called stuck.
    pub progress_deadline: Option<Duration>,
    /// How long after its end the batch is deleted.
    pub ttl: Option<Duration>,
}

impl Batch {
    /// The batch's name.
    pub fn name(&self) -> &BatchName {
        &self.spec.name
    }
}

/// Checks a batch and what it refers to.
pub fn validate(batch: &HarmonyBatch, dereferenced: Dereferenced) -> Result<Batch, Error> {
    let metadata = &batch.metadata;
    let uid = metadata.uid.as_deref().and_then(|uid| uid.parse().ok());
    let uid = BatchUid(uid.ok_or(Error::Metadata("uid"))?);
    let namespace = metadata.namespace.clone().ok_or(Error::Metadata("namespace"))?;
    let owner = batch.controller_owner_ref(&()).ok_or(Error::Metadata("name"))?;
    let (spec, template) = match (validate_for_cluster(batch), Template::new(&batch.spec)) {
        (Ok(spec), Ok(Some(template))) => (spec, template),
        (spec, template) => return Err(Error::Spec(problems(spec, template))),
    };
    let executor = one_argument(json(&spec.executor.wire())?)?;
    let revision = revision(&json(&batch.spec.template)?, &executor, &spec);
    Ok(Batch {
        owner: OwnerReference {
            // Deleting a batch never waits for its objects.
            block_owner_deletion: Some(false),
            ..owner
        },
        namespace,
        uid,
        generation: metadata.generation.unwrap_or_default(),
        names: Names::new(&spec.name, uid),
        spec: resolved(spec, dereferenced),
        executor,
        template,
        revision,
        collector: batch.spec.collector.clone().unwrap_or_default(),
        suspend: batch.spec.suspend.unwrap_or_default(),
        progress_deadline: batch.spec.progress_deadline_seconds.map(Duration::from_secs),
        ttl: batch.spec.ttl_seconds_after_finished.map(Duration::from_secs),
    })
}

/// A spec whose tasks are here, where they come from a `ConfigMap`.
fn resolved(spec: ValidatedBatch, dereferenced: Dereferenced) -> ValidatedBatch {
    let tasks = match (spec.tasks, dereferenced.tasks) {
        (Tasks::ConfigMap { name, key }, Some(text)) => Tasks::Text {
            origin: format!("the key {key} of the ConfigMap {name}"),
            text,
        },
        (tasks, _) => tasks,
    };
    ValidatedBatch { tasks, ..spec }
}

fn problems(
    spec: Result<ValidatedBatch, Vec<harmony_api::Finding>>,
    template: Result<Option<Template>, Vec<String>>,
) -> Vec<String> {
    let findings = spec.err().into_iter().flatten().map(|finding| finding.to_string());
    findings.chain(template.err().into_iter().flatten()).collect()
}

/// A worker gets its executor as one argument.
fn one_argument(executor: String) -> Result<String, Error> {
    let bytes = executor.len();
    if bytes <= MAX_ARGUMENT {
        return Ok(executor);
    }
    Err(Error::Spec(vec![format!(
        "spec.executor: found a command of {bytes} bytes as JSON, expected at most {MAX_ARGUMENT}, the longest argument of a \
         program on Linux; put scripts into the image or a ConfigMap"
    )]))
}

/// What depends on none of the operator's settings: a new version of it leaves running workers alone.
fn revision(template: &str, executor: &str, spec: &ValidatedBatch) -> String {
    let slots = spec.slots_per_worker.to_string();
    // A worker keeps the deadline that it was started with.
    let deadline = spec
        .active_deadline_per_index
        .map(|deadline| deadline.as_secs().to_string());
    let mut hash = Sha256::new();
    for part in [template, executor, &slots, &deadline.unwrap_or_default()] {
        hash.update(part);
        // No JSON holds a zero byte.
        hash.update([0]);
    }
    // Two digits a byte.
    let bytes = hash.finalize();
    write_digest(bytes.get(..REVISION / 2).unwrap_or(&bytes))
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Spec(vec![error.to_string()]))
}

/// All problems in one message, cut to what people read.
fn told(problems: &[String]) -> String {
    let mut told = problems.join("; ");
    let cut = told.floor_char_boundary(MAX_MESSAGE);
    if cut < told.len() {
        told.truncate(cut);
        told.push('…');
    }
    told
}
