//! What a process of Harmony shows at its metrics port.

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use crate::kubectl::kubectl;
use crate::metrics::carries;
use crate::operator::OPERATOR_NAMESPACE;

/// The port `metrics` of every pod.
const PORT: u16 = 27_780;

/// A pod may not answer at all, and others are to be asked.
const LOOK_WITHIN: &str = "--request-timeout=5s";

/// The metrics of one pod at one moment.
#[derive(Clone, Debug)]
pub struct Scrape {
    text: String,
}

impl Scrape {
    /// Asks a pod by way of the API server.
    pub async fn of(namespace: &str, pod: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy/metrics");
        let text = kubectl(&["get", "--raw", &path, LOOK_WITHIN]).await?;
        Ok(Self { text })
    }

    /// Asks the operator that leads now, and gives its pod as well.
    pub async fn of_leader(client: &Client) -> Result<(Pod, Self)> {
        let pods = Api::<Pod>::namespaced(client.clone(), OPERATOR_NAMESPACE);
        let of_operator = ListParams::default().labels("app.kubernetes.io/component=operator");
        for pod in pods.list(&of_operator).await? {
            // One that is just going or coming does not answer.
            let Ok(scrape) = Self::of(OPERATOR_NAMESPACE, &pod.name_any()).await else {
                continue;
            };
            if scrape.sum("harmony_operator_leader", &[]) > 0.0 {
                return Ok((pod, scrape));
            }
        }
        bail!("no operator leads")
    }

    /// The sum of the series of this name that carry all these labels; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let named = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let carried = |line: &&str| labels.iter().all(|(name, value)| carries(line, name, value));
        let value = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
        // Not `sum`, whose nothing is minus zero.
        self.text
            .lines()
            .filter(named)
            .filter(carried)
            .filter_map(value)
            .fold(0.0, |sum, value| sum + value)
    }

    /// The leader's count of a batch's tasks in one state.
    pub fn tasks(&self, namespace: &str, batch: &str, state: &str) -> f64 {
        let labels = [("namespace", namespace), ("batch", batch), ("state", state)];
        self.sum("harmony_batch_tasks", &labels)
    }
}

/// The name of the node of a pod.
pub(crate) fn node(pod: &Pod) -> Result<&str> {
    let spec = pod.spec.as_ref().context("a pod without a spec")?;
    spec.node_name.as_deref().context("the pod has no node yet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let text = "# TYPE x gauge\nx 4\nx{batch=\"a\",state=\"b\"} 2\nx{batch=\"c\"} 1\nxy 9\n".to_owned();
        let scrape = Scrape { text };
        let sum = |name, labels: &[(&str, &str)]| scrape.sum(name, labels).to_string();
        assert_eq!(sum("x", &[]), "7");
        assert_eq!(sum("x", &[("batch", "a")]), "2");
        assert_eq!(sum("y", &[]), "0");
    }
}
