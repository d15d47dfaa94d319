//! First step, with a client: reads what a batch refers to. It only reads.

use std::collections::BTreeSet;
use std::fmt;

use harmony_api::conditions::reason;
use harmony_api::spec::{HarmonyBatch, TasksSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, PersistentVolumeClaim, PodSpec};
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use thiserror::Error;

/// Objects that a template refers to and that are looked for, so that no template makes the operator ask for ever.
const MAX_REFERENCES: usize = 64;

/// Why the tasks cannot be read.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such object.
    #[error(
        "spec.tasks.configMapRef.name: found no ConfigMap {name:?} in the namespace {namespace}; create it, or name another"
    )]
    ConfigMapMissing {
        /// The `ConfigMap`.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The object has no such key.
    #[error(
        "spec.tasks.configMapRef.key: found no key {key:?} in the ConfigMap {name}, which has {keys:?}; add it, or name another"
    )]
    KeyMissing {
        /// The `ConfigMap`.
        name: String,
        /// The key.
        key: String,
        /// The keys that are there.
        keys: Vec<String>,
    },
    /// Payloads of tasks are text.
    #[error(
        "spec.tasks.configMapRef.key: the value of {key:?} in the ConfigMap {name} is not UTF-8; write one task per line as text"
    )]
    NotText {
        /// The `ConfigMap`.
        name: String,
        /// The key.
        key: String,
    },
    /// The API server does not answer as it should.
    #[error("failed to read the {kind} {name}: {source}")]
    Read {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What went wrong.
        source: kube::Error,
    },
}

impl Error {
    /// The reason for the condition and the event.
    pub fn reason(&self) -> &'static str {
        reason::TASKS_SOURCE_UNAVAILABLE
    }
}

/// What a batch refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dereferenced {
    /// The text with the tasks, if they come from a `ConfigMap`.
    pub tasks: Option<String>,
    /// What the template refers to and is not there. Pods wait for it, some without saying so.
    pub missing: BTreeSet<Reference>,
}

/// An object that a template refers to, in the batch's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A `ConfigMap`.
    ConfigMap(String),
    /// A claim.
    Claim(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
            Self::Claim(name) => write!(f, "PersistentVolumeClaim {name}"),
        }
    }
}

/// Reads what a batch refers to. It costs requests, so it is for batches that are about to start or do not get on.
pub async fn dereference(client: &Client, batch: &HarmonyBatch) -> Result<Dereferenced, Error> {
    let namespace = batch.namespace().unwrap_or_default();
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let mut found = Dereferenced::default();
    if let TasksSpec::ConfigMapRef(from) = &batch.spec.tasks {
        let read = config_maps.get_opt(&from.name).await;
        let config_map = read.map_err(failed("ConfigMap", &from.name))?;
        found.tasks = Some(text(config_map, &from.name, &from.key, namespace)?);
    }
    for reference in references(batch) {
        let there = match &reference {
            Reference::ConfigMap(name) => exists(&config_maps, "ConfigMap", name).await?,
            Reference::Claim(name) => exists(&claims, "PersistentVolumeClaim", name).await?,
        };
        if !there {
            found.missing.insert(reference);
        }
    }
    Ok(found)
}

async fn exists<K>(api: &Api<K>, kind: &'static str, name: &str) -> Result<bool, Error>
where
    K: Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    let found = api.get_metadata_opt(name).await.map_err(failed(kind, name))?;
    Ok(found.is_some())
}

fn failed(kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Read { kind, name, source }
}

/// The text under a key, wherever the `ConfigMap` holds it.
fn text(config_map: Option<ConfigMap>, name: &str, key: &str, namespace: String) -> Result<String, Error> {
    let (name, key) = (name.to_owned(), key.to_owned());
    let Some(config_map) = config_map else {
        return Err(Error::ConfigMapMissing { name, namespace });
    };
    let (mut texts, mut bytes) = (
        config_map.data.unwrap_or_default(),
        config_map.binary_data.unwrap_or_default(),
    );
    match (texts.remove(&key), bytes.remove(&key)) {
        (Some(text), _) => Ok(text),
        (None, Some(bytes)) => String::from_utf8(bytes.0).map_err(|_| Error::NotText { name, key }),
        (None, None) => Err(Error::KeyMissing {
            name,
            key,
            keys: texts.into_keys().chain(bytes.into_keys()).collect(),
        }),
    }
}

/// What the template cannot do without. Secrets are not among them: the operator may not read any.
fn references(batch: &HarmonyBatch) -> BTreeSet<Reference> {
    let pod = batch.spec.template.as_ref().and_then(|template| template.spec.as_ref());
    let references = pod
        .into_iter()
        .flat_map(|pod| volumes(pod).into_iter().chain(variables(pod)));
    references.take(MAX_REFERENCES).collect()
}

fn volumes(pod: &PodSpec) -> Vec<Reference> {
    let mut references = Vec::new();
    for volume in pod.volumes.iter().flatten() {
        let own = volume.config_map.iter().map(|source| (&source.name, source.optional));
        let sources = volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten());
        let projected = sources
            .filter_map(|source| source.config_map.as_ref())
            .map(|source| (&source.name, source.optional));
        references.extend(needed(own.chain(projected)));
        let claim = volume.persistent_volume_claim.as_ref();
        references.extend(claim.map(|claim| Reference::Claim(claim.claim_name.clone())));
    }
    references
}

fn variables(pod: &PodSpec) -> Vec<Reference> {
    let of = |container: &Container| {
        let values = container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref());
        let single = values
            .filter_map(|value| value.config_map_key_ref.as_ref())
            .map(|source| (&source.name, source.optional));
        let whole = container.env_from.iter().flatten();
        let whole = whole
            .filter_map(|value| value.config_map_ref.as_ref())
            .map(|source| (&source.name, source.optional));
        needed(single.chain(whole)).collect::<Vec<_>>()
    };
    let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
    containers.flat_map(of).collect()
}

fn needed<'a>(sources: impl Iterator<Item = (&'a String, Option<bool>)>) -> impl Iterator<Item = Reference> {
    sources
        .filter(|(_, optional)| *optional != Some(true))
        .map(|(name, _)| Reference::ConfigMap(name.clone()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    const SPEC: &str = "
apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {name: render}
spec:
  template:
    spec:
      initContainers:
        - {name: init, image: i, envFrom: [{configMapRef: {name: a}}, {configMapRef: {name: spare, optional: true}}]}
      containers:
        - name: worker
          image: i
          env:
            - {name: A, valueFrom: {configMapKeyRef: {name: b, key: k}}}
            - {name: B, valueFrom: {secretKeyRef: {name: secret, key: k}}}
      volumes:
        - {name: a, configMap: {name: c}}
        - {name: b, configMap: {name: spare, optional: true}}
        - {name: c, projected: {sources: [{configMap: {name: d}}, {secret: {name: secret}}]}}
        - {name: d, persistentVolumeClaim: {claimName: e}}
        - {name: e, configMap: {name: c}}
";

    #[test]
    fn whatever_a_pod_would_wait_for_is_looked_for_once() {
        let batch: HarmonyBatch = serde_saphyr::from_str(SPEC).unwrap();
        let found: Vec<_> = references(&batch).iter().map(ToString::to_string).collect();
        let expected = [
            "ConfigMap a",
            "ConfigMap b",
            "ConfigMap c",
            "ConfigMap d",
            "PersistentVolumeClaim e",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn tasks_are_text_wherever_a_config_map_holds_them() {
        let config_map = ConfigMap {
            data: Some([("lines".to_owned(), "a\nb\n".to_owned())].into()),
            binary_data: Some(
                [("more", b"c\n".to_vec()), ("noise", vec![0xff])]
                    .map(|(key, bytes)| (key.to_owned(), ByteString(bytes)))
                    .into(),
            ),
            ..ConfigMap::default()
        };
        let of =
            |key| text(Some(config_map.clone()), "frames", key, "films".to_owned()).map_err(|error| error.to_string());
        assert_eq!(of("lines"), Ok("a\nb\n".to_owned()));
        assert_eq!(of("more"), Ok("c\n".to_owned()));
        let field = "spec.tasks.configMapRef.key";
        assert_eq!(
            of("noise"),
            Err(format!(
                "{field}: the value of \"noise\" in the ConfigMap frames is not UTF-8; write one task per line as text"
            ))
        );
        assert_eq!(
            of("list"),
            Err(format!(
                "{field}: found no key \"list\" in the ConfigMap frames, which has [\"lines\", \"more\", \"noise\"]; add it, or name another"
            ))
        );
        assert_eq!(
            text(None, "frames", "list", "films".to_owned())
                .unwrap_err()
                .to_string(),
            "spec.tasks.configMapRef.name: found no ConfigMap \"frames\" in the namespace films; create it, or name another"
        );
    }
}
