//! A test and its namespace.

use std::env;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use crate::dump::dump;
use crate::kubectl::kubectl_reading;
use crate::{eventually, volumes};

/// Set it, and the namespaces of tests that failed stay.
const KEEP: &str = "HARMONY_E2E_KEEP";

/// How long a namespace may take until pods can be made in it.
const NAMESPACE_WITHIN: Duration = Duration::from_secs(30);

/// How long a pod may take from its creation until it is ready, on a busy machine.
const POD_READY_WITHIN: Duration = Duration::from_mins(1);

/// A test's namespace, in which Pod Security "restricted" is enforced, and what to do there.
pub struct Scenario {
    /// The administrator's client.
    pub client: Client,
    /// A name that no other test has.
    pub namespace: String,
}

/// Runs a test in a namespace of its own. If it fails or panics, this prints what a person would look at.
pub async fn scenario(test: impl AsyncFnOnce(&Scenario) -> Result<()>) -> Result<()> {
    let scenario = Scenario::begin().await?;
    let outcome = AssertUnwindSafe(test(&scenario)).catch_unwind().await;
    // What a panic says is printed where it happens.
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("the test panicked")));
    if outcome.is_err() {
        eprintln!("{}", dump(&scenario.namespace).await);
    }
    if outcome.is_err() && env::var_os(KEEP).is_some() {
        eprintln!("namespace {} stays, since {KEEP} is set", scenario.namespace);
    } else {
        scenario.end().await?;
    }
    outcome
}

impl Scenario {
    async fn begin() -> Result<Self> {
        // Another library in the same program may have chosen first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_default()
            .await
            .context("no cluster: `cargo xtask e2e` brings one up, or set KUBECONFIG")?;
        volumes::renew(&client).await?;
        let namespace = format!("e2e-{}", &Uuid::new_v4().simple().to_string()[..8]);
        let scenario = Self { client, namespace };
        scenario.make_namespace().await?;
        Ok(scenario)
    }

    async fn make_namespace(&self) -> Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {
                "name": self.namespace,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }))?;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.create(&PostParams::default(), &namespace).await?;
        self.wait_for(
            "the namespace's service account",
            NAMESPACE_WITHIN,
            "default",
            |_: &ServiceAccount| Ok(()),
        )
        .await
    }

    /// The rest of it goes in the background.
    async fn end(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        match namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            // A test may have deleted it.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        }
    }

    /// The objects of one kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// `kubectl apply`s a text of one or several documents. What the API server refuses is the error, in its words.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        let arguments = ["--namespace", &self.namespace, "apply", "--filename=-"];
        kubectl_reading(&arguments, yaml).await.map(drop)
    }

    /// kubectl in the namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let namespace = ["--namespace", self.namespace.as_str()];
        kubectl_reading(&[namespace.as_slice(), arguments].concat(), "").await
    }

    /// Runs a command in a pod's first container and gives its output.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[["exec", pod, "--"].as_slice(), command].concat()).await
    }

    /// Looks at an object until `judge` is content with it; what it complained about last is the error.
    pub async fn wait_for<K, T>(
        &self,
        what: &str,
        within: Duration,
        name: &str,
        judge: impl Fn(&K) -> Result<T>,
    ) -> Result<T>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let objects = self.api::<K>();
        eventually(what, within, async || judge(&objects.get(name).await?)).await
    }

    /// Waits until a pod is ready, and gives it.
    pub async fn wait_for_ready(&self, pod: &str) -> Result<Pod> {
        let what = format!("pod {pod} to be ready");
        self.wait_for(&what, POD_READY_WITHIN, pod, |pod: &Pod| {
            let status = pod.status.as_ref().context("no status")?;
            let conditions = status.conditions.as_deref().unwrap_or_default();
            let ready = conditions
                .iter()
                .any(|found| found.type_ == "Ready" && found.status == "True");
            ready
                .then(|| pod.clone())
                .with_context(|| format!("phase {:?}, {:?}", status.phase, status.container_statuses))
        })
        .await
    }
}
