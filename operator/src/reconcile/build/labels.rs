//! What all objects of a batch carry: labels to find them by, and the batch as their owner.

use std::collections::BTreeMap;

use harmony_api::conventions::{
    BATCH_LABEL, BATCH_UID_LABEL, COLLECTOR_ROLE, GENERATION_LABEL, METRICS_PORT, ORDINAL_LABEL, ROLE_LABEL,
    WORKER_ROLE,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::Settings;
use super::names::label_value;
use crate::reconcile::validate::Batch;

/// The common labels of Kubernetes, by which dashboards group.
const NAME_LABEL: &str = "app.kubernetes.io/name";
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The value of [`NAME_LABEL`].
const APPLICATION: &str = "harmony";
/// The value of [`MANAGED_BY_LABEL`]: a label cannot hold the slash of the operator's full name.
const MANAGER: &str = "harmony-operator";
/// The value of [`COMPONENT_LABEL`] on the operator's own pods.
const OPERATOR_COMPONENT: &str = "operator";

/// What a pod is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs tasks.
    Worker,
    /// Records outcomes.
    Collector,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Worker => WORKER_ROLE,
            Self::Collector => COLLECTOR_ROLE,
        }
    }
}

/// The metadata of an object of a batch.
pub(super) fn metadata(batch: &Batch, role: Role, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(batch.namespace.clone()),
        labels: Some(labels(batch, role)),
        owner_references: Some(vec![batch.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// The labels of an object of a batch.
pub(super) fn labels(batch: &Batch, role: Role) -> BTreeMap<String, String> {
    let mut labels = selector(batch, role);
    labels.extend(owned([
        (BATCH_LABEL, &label_value(batch.name(), batch.uid)),
        (NAME_LABEL, APPLICATION),
        (MANAGED_BY_LABEL, MANAGER),
        (COMPONENT_LABEL, role.as_str()),
    ]));
    labels
}

/// The annotations by which a Prometheus finds a pod's metrics that looks for such, if they are asked for.
pub(super) fn scraping(settings: &Settings) -> impl Iterator<Item = (String, String)> {
    let annotations = owned([
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", &METRICS_PORT.to_string()),
    ]);
    annotations.into_iter().filter(|_| settings.scrape_annotations)
}

/// The labels that tell one worker pod from the others of its batch.
pub(super) fn worker_labels(ordinal: u32, generation: u64) -> BTreeMap<String, String> {
    owned([
        (ORDINAL_LABEL, &ordinal.to_string()),
        (GENERATION_LABEL, &generation.to_string()),
    ])
}

/// The labels that the pods of a role, and no others, carry: by the uid, since names may be cut.
pub(super) fn selector(batch: &Batch, role: Role) -> BTreeMap<String, String> {
    owned([(BATCH_UID_LABEL, &batch.uid.to_string()), (ROLE_LABEL, role.as_str())])
}

/// Picks the pods of a role.
pub(super) fn pods_of(batch: &Batch, role: Role) -> LabelSelector {
    matching(selector(batch, role))
}

/// Picks the operator's pods.
pub(super) fn operator_pods() -> LabelSelector {
    matching(owned([
        (NAME_LABEL, APPLICATION),
        (COMPONENT_LABEL, OPERATOR_COMPONENT),
    ]))
}

/// Picks what carries all of these labels.
pub(super) fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

/// A map of owned text.
pub(super) fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
