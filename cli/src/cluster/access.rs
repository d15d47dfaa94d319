//! The way to a cluster: the kubeconfig, and what its refusals mean.

use std::future::Future;
use std::path::PathBuf;

use clap::Args;
use harmony_api::spec::HarmonyBatch;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::exit::Failure;

/// The flags of kubectl that say which cluster is meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KubeArgs {
    /// The namespace [default: the one of the kubeconfig's context]
    #[arg(long, short, value_name = "NAMESPACE", help_heading = "Cluster")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "CONTEXT", help_heading = "Cluster")]
    pub(crate) context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, ~/.kube/config, the service account of a pod]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// A cluster, and the namespace that is meant.
pub(crate) struct Cluster {
    /// Talks to the API server.
    pub(crate) client: Client,
    /// The namespace of all names.
    pub(crate) namespace: String,
}

impl Cluster {
    /// Finds the cluster. Nothing is asked of it yet.
    pub(crate) async fn find(args: &KubeArgs) -> Result<Self, Failure> {
        // A second provider in the process would leave rustls without a default.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = config(args).await?;
        let namespace = args
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| explain(&error, "reach the cluster"))?;
        Ok(Self { client, namespace })
    }

    /// The batches of the namespace.
    pub(crate) fn batches(&self) -> Api<HarmonyBatch> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pods of the namespace.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Reads a batch.
    pub(crate) async fn batch(&self, name: &str) -> Result<HarmonyBatch, Failure> {
        let error = match self.batches().get(name).await {
            Ok(batch) => return Ok(batch),
            Err(error) => error,
        };
        if is_absent(&error) {
            return Err(Failure::bad_input(format!(
                "there is no batch {name} in namespace {}; harmony status -n NAMESPACE lists those of a namespace, \
                 and a folder of this machine is named with a slash, as ./{name}",
                self.namespace
            )));
        }
        Err(explain(
            &error,
            &format!("read batch {name} in namespace {}", self.namespace),
        ))
    }
}

async fn config(args: &KubeArgs) -> Result<Config, Failure> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let loaded = match &args.kubeconfig {
        Some(path) => match Kubeconfig::read_from(path) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        },
        None => Config::from_kubeconfig(&options).await,
    };
    let error = match loaded {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    let named = args.kubeconfig.is_some() || args.context.is_some();
    if !named && let Ok(config) = Config::incluster() {
        return Ok(config);
    }
    Err(Failure::bad_input(format!(
        "no cluster is known: {}; name a kubeconfig with --kubeconfig or $KUBECONFIG",
        causes(&error)
    )))
}

/// Runs what talks to a cluster to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::infrastructure)?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Whether the API server knows the resource, and has no object of this name.
fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound")
}

/// What an error of the API server means, and the way out. `action` completes "cannot ...".
pub(crate) fn explain(error: &kube::Error, action: &str) -> Failure {
    let kube::Error::Api(status) = error else {
        return Failure::infrastructure(format!("cannot {action}: {}", causes(error)));
    };
    let message = status.message.trim();
    match status.code {
        404 if !is_absent(error) => Failure::infrastructure(format!(
            "cannot {action}: the cluster does not know HarmonyBatch; install Harmony: kubectl apply -f deploy/harmony.yaml"
        )),
        401 => Failure::infrastructure(format!(
            "cannot {action}: the cluster does not know you; log in again ({message})"
        )),
        403 => Failure::infrastructure(format!("cannot {action}: {message}; ask for that right")),
        400 | 422 => Failure::bad_input(format!("cannot {action}: {message}")),
        _ => Failure::infrastructure(format!("cannot {action}: {message}")),
    }
}

/// Who could not be asked, and the right that is missing, if that is why.
pub(crate) fn missing_right(who: &str, verb: &str, resource: &str, namespace: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if [401, 403].contains(&status.code) => format!(
            "{who}: you may not {verb} {resource} in namespace {namespace}; ask for the right {verb} on {resource} there"
        ),
        _ => format!("{who}: {}", causes(error)),
    }
}

/// An error with all that caused it.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Many errors repeat their cause in their own words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::exit::Exit;

    fn refusal(code: u16, reason: &str, message: &str) -> kube::Error {
        let status = Status {
            code,
            ..Status::failure(message, reason)
        };
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn refusals_say_the_way_out() {
        let cases = [
            (
                404,
                "Failed to parse error data",
                "404 page not found",
                Exit::Infrastructure,
                "install Harmony",
            ),
            (
                401,
                "Unauthorized",
                "Unauthorized",
                Exit::Infrastructure,
                "log in again",
            ),
            (
                403,
                "Forbidden",
                "cannot get harmonybatches",
                Exit::Infrastructure,
                "ask for that right",
            ),
            (422, "Invalid", "spec: bad", Exit::BadInput, "spec: bad"),
            (
                500,
                "InternalError",
                "etcd is gone",
                Exit::Infrastructure,
                "etcd is gone",
            ),
        ];
        for (code, reason, message, exit, said) in cases {
            let failure = explain(&refusal(code, reason, message), "read batch x");
            assert_eq!(failure.exit, exit, "{code}");
            assert!(
                failure.message.starts_with("cannot read batch x: "),
                "{}",
                failure.message
            );
            assert!(failure.message.contains(said), "{}", failure.message);
        }
        assert!(is_absent(&refusal(404, "NotFound", "not found")));
    }
}
