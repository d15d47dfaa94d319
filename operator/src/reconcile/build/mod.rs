//! Builds every Kubernetes object of a batch. Pure: what comes out depends only on the batch and the operator's settings.

mod agent;
mod budget;
pub(super) mod certificates;
mod collector;
mod command;
mod labels;
mod names;
mod network;
mod probes;
mod pull;
mod security;
pub(super) mod spool;
mod worker;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

pub use self::names::{Names, label_value};
pub use self::worker::worker_pod;
use super::validate::Batch;

/// What the operator was told about all batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Harmony's image, for collectors and for the agent in worker pods.
    pub image: String,
    /// When kubelets pull that image; Kubernetes decides if absent.
    pub image_pull_policy: Option<String>,
    /// Secrets that it is pulled with, by their names in each batch's namespace.
    pub image_pull_secrets: Vec<String>,
    /// How the agent comes into worker pods.
    pub delivery: Delivery,
    /// How links between pods are protected.
    pub links: Links,
    /// The operator's own namespace: links may come from there.
    pub operator_namespace: String,
    /// Pods say by annotations where their metrics are.
    pub scrape_annotations: bool,
    /// The flags by which pods trace as the operator does; none if nothing is traced.
    pub trace_flags: Vec<String>,
}

/// How the agent comes into worker pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Delivery {
    /// An init container copies it into an empty volume: works everywhere
    #[default]
    Copy,
    /// Its image is mounted: nothing is copied, and nothing runs before the worker. Needs image volumes of the cluster
    /// (Kubernetes 1.35, or 1.33 with the feature gate `ImageVolume`) and of its container runtime (containerd 2.1, CRI-O 1.33)
    ImageVolume,
}

/// How links between pods are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Not at all, but for network policies: whoever reaches a worker can run commands in it.
    InsecureTcp,
    /// Both sides show certificates, from the Secrets that [`Names`] names.
    MutualTls,
}

/// All objects of a batch but its worker pods, which come and go one by one.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// Who may reach the pods.
    pub network_policies: [NetworkPolicy; 2],
    /// How many workers a drain may take at once.
    pub disruption_budget: PodDisruptionBudget,
    /// The collector's name in DNS.
    pub collector_service: Service,
    /// The collector's storage, if the batch asks for a claim.
    pub collector_claim: Option<PersistentVolumeClaim>,
    /// The collector.
    pub collector: Pod,
}

/// Builds all objects of a batch but its worker pods.
pub fn build(batch: &Batch, settings: &Settings) -> Resources {
    Resources {
        network_policies: network::policies(batch, settings),
        disruption_budget: budget::workers(batch),
        collector_service: network::collector_service(batch),
        collector_claim: collector::claim(batch),
        collector: collector::pod(batch, settings),
    }
}
