//! SIGKILL for a pod's process, from outside: from within, the first process of a container is safe from it.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use uuid::Uuid;

use crate::kubectl::{kubectl, kubectl_reading};
use crate::scrape::node;

/// Where Pod Security lets a pod see the processes of its node.
const NAMESPACE: &str = "default";

/// A pod that sees all processes of one node. Make it before it is needed: a pod takes seconds.
pub struct Killer {
    name: String,
    container: String,
}

impl Killer {
    /// One that can kill the only container of a pod that runs, as it is now.
    pub async fn of(victim: &Pod) -> Result<Self> {
        let name = format!("killer-{}", &Uuid::new_v4().simple().to_string()[..8]);
        let yaml = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec: {{hostPID: true, \
             nodeName: {}, terminationGracePeriodSeconds: 0, restartPolicy: Never, containers: [{{name: killer, \
             image: shell:dev, command: [sleep, '600']}}]}}\n",
            node(victim)?
        );
        let container = container(victim)?;
        kubectl_reading(&["apply", "--filename=-"], &yaml).await?;
        let killer = Self { name, container };
        let pod = format!("pod/{}", killer.name);
        kubectl(&[
            "wait",
            &pod,
            "--namespace",
            NAMESPACE,
            "--for=condition=Ready",
            "--timeout=60s",
        ])
        .await?;
        Ok(killer)
    }

    /// Kills the container's processes.
    pub async fn kill(self) -> Result<()> {
        let script = format!(
            "for p in /proc/[0-9]*; do if grep -q {} $p/cgroup 2>/dev/null; then kill -9 ${{p#/proc/}} && echo killed; \
             fi; done",
            self.container
        );
        let said = kubectl(&["exec", &self.name, "--namespace", NAMESPACE, "--", "sh", "-c", &script]).await?;
        ensure!(
            said.contains("killed"),
            "container {} has no process on the node",
            self.container
        );
        kubectl(&["delete", "pod", &self.name, "--namespace", NAMESPACE, "--wait=false"]).await?;
        Ok(())
    }
}

/// The id of the only container, without the runtime's name.
pub(crate) fn container(pod: &Pod) -> Result<String> {
    let status = pod.status.as_ref().context("a pod without a status")?;
    let first = status.container_statuses.iter().flatten().next();
    let id = first.and_then(|container| container.container_id.as_deref());
    let id = id.with_context(|| format!("pod {} does not run", pod.name_any()))?;
    Ok(id.rsplit('/').next().unwrap_or(id).to_owned())
}
