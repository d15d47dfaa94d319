//! Fourth step, with a client: makes what is missing and deletes what is not wanted.
//!
//! Objects are created by name, and one that is there already is a success: names are fixed, so a stale view of the
//! cluster cannot make two. Nothing that is there is ever overwritten: a new version of the operator leaves the objects
//! of running batches alone.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt as _};
use thiserror::Error;

use super::build::Resources;

/// Why something was not made or deleted.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The API server does not allow it: a quota, a policy, a webhook.
    #[error("the API server refuses the {kind} {name}: {message}")]
    Refused {
        /// The kind of object.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server says.
        message: String,
    },
    /// The namespace is being deleted, and everything in it.
    #[error("the namespace is being deleted")]
    NamespaceEnds,
    /// The API server does not answer as it should.
    #[error("failed to {verb} the {kind} {name}: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// The kind of object.
        kind: String,
        /// Its name.
        name: String,
        /// What went wrong.
        source: kube::Error,
    },
}

/// Makes objects in the namespace of one batch.
#[derive(Clone)]
pub(crate) struct Applier {
    client: Client,
    namespace: String,
}

/// How many seconds a deletion waits for a pod to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grace {
    /// What the pod says.
    Own,
    /// None: its node is lost.
    None,
}

impl Applier {
    /// Works in this namespace.
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// Makes all objects of a batch but its pods. The order is such that no pod is ever reachable without its policies.
    pub(crate) async fn resources(&self, resources: &Resources) -> Result<(), Error> {
        // Without `..`: a new object cannot be forgotten here.
        let Resources {
            network_policies,
            disruption_budget,
            collector_service,
            collector_claim,
            collector: _, // made when it is wanted, by `pod`
        } = resources;
        for policy in network_policies {
            self.create::<NetworkPolicy>(policy).await?;
        }
        self.create::<PodDisruptionBudget>(disruption_budget).await?;
        self.create::<Service>(collector_service).await?;
        if let Some(claim) = collector_claim {
            self.create::<PersistentVolumeClaim>(claim).await?;
        }
        Ok(())
    }

    /// Makes a pod. Whether it is new.
    pub(crate) async fn pod(&self, pod: &Pod) -> Result<bool, Error> {
        self.create(pod).await
    }

    /// Deletes a pod, and no other one of its name.
    pub(crate) async fn delete_pod(&self, name: &str, uid: &str, grace: Grace) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let parameters = DeleteParams {
            grace_period_seconds: (grace == Grace::None).then_some(0),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            // It is gone, or another one has its name.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(source) => Err(failure::<Pod>("delete", name, source)),
        }
    }

    async fn create<K>(&self, object: &K) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        match api.create(&PostParams::default(), object).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(source) => Err(failure::<K>("create", &object.name_any(), source)),
        }
    }
}

fn failure<K: Resource<DynamicType = ()>>(verb: &'static str, name: &str, source: kube::Error) -> Error {
    let (kind, name) = (K::kind(&()).into_owned(), name.to_owned());
    match source {
        kube::Error::Api(status) if status.is_forbidden() || status.code == 422 => {
            if status.message.contains("because it is being terminated") {
                return Error::NamespaceEnds;
            }
            Error::Refused {
                kind,
                name,
                message: status.message,
            }
        }
        source => Error::Api {
            verb,
            kind,
            name,
            source,
        },
    }
}
