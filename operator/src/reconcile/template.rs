//! The user's template of the worker pods, taken apart: what runs tasks, and what is beside it.

use std::collections::BTreeMap;

use harmony_api::conventions::{
    AGENT_CONTAINER, AGENT_DIR, AGENT_VOLUME, LINK_PORT, LINK_PORT_NAME, METRICS_PORT, METRICS_PORT_NAME,
    WORKER_CONTAINER,
};
use harmony_api::spec::HarmonyBatchSpec;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::build::{certificates, spool};

/// The prefix of the labels and annotations that are Harmony's own.
const OWN_KEYS: &str = "harmony.dev/";

/// A template that Harmony's parts have room in.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// The annotations of its pods.
    pub annotations: BTreeMap<String, String>,
    /// The pod without the worker's container.
    pub pod: PodSpec,
    /// The container that runs tasks.
    pub worker: Container,
    /// Where in the list of containers that one stands.
    pub position: usize,
}

impl Template {
    /// Takes the template of a batch apart, or names what stands in the way. Nothing, if it has no container.
    pub(super) fn new(spec: &HarmonyBatchSpec) -> Result<Option<Self>, Vec<String>> {
        let Some(template) = &spec.template else {
            return Ok(None);
        };
        let Some(mut pod) = template.spec.clone().filter(|pod| !pod.containers.is_empty()) else {
            return Ok(None);
        };
        let metadata = template.metadata.clone().unwrap_or_default();
        let named = pod
            .containers
            .iter()
            .position(|container| container.name == WORKER_CONTAINER);
        let position = named.unwrap_or(0);
        let worker = pod.containers.remove(position);
        let template = Self {
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            pod,
            worker,
            position,
        };
        let obstacles = template.obstacles();
        if obstacles.is_empty() {
            Ok(Some(template))
        } else {
            Err(obstacles)
        }
    }

    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        obstacles.extend(self.keys());
        obstacles.extend(self.restarts());
        obstacles.extend(self.system());
        obstacles.extend(self.names());
        obstacles.extend(self.mounts());
        obstacles.extend(self.ports());
        obstacles
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        let all = [("labels", &self.labels), ("annotations", &self.annotations)];
        all.into_iter().flat_map(|(field, keys)| {
            let own = keys.keys().filter(|key| key.starts_with(OWN_KEYS));
            own.map(move |key| {
                format!("spec.template.metadata.{field}: found {key:?}, but {OWN_KEYS} is Harmony's own; choose another prefix")
            })
        })
    }

    fn restarts(&self) -> Option<String> {
        let policy = self.pod.restart_policy.as_deref().filter(|policy| *policy != "Never")?;
        Some(format!(
            "spec.template.spec.restartPolicy: found {policy:?}, expected Never: a worker that ends is replaced by a new pod; \
             set Never, or leave it out"
        ))
    }

    fn system(&self) -> Option<String> {
        let name = self
            .pod
            .os
            .as_ref()
            .map(|os| os.name.as_str())
            .filter(|name| *name != "linux")?;
        Some(format!(
            "spec.template.spec.os.name: found {name:?}, expected linux: the agent is a Linux program; leave it out"
        ))
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let spec = "spec.template.spec";
        let inits = self
            .pod
            .init_containers
            .iter()
            .flatten()
            .map(|container| ("initContainers", &container.name));
        let containers = self.containers().map(|container| ("containers", &container.name));
        let volumes = self
            .pod
            .volumes
            .iter()
            .flatten()
            .map(|volume| ("volumes", &volume.name));
        let taken = [AGENT_CONTAINER, AGENT_VOLUME, certificates::VOLUME, spool::VOLUME];
        let all = inits.chain(containers).chain(volumes);
        all.filter(move |(_, name)| taken.contains(&name.as_str()))
            .map(move |(field, name)| {
                format!("{spec}.{field}: found the name {name:?}, which is Harmony's own; rename it")
            })
    }

    fn mounts(&self) -> impl Iterator<Item = String> {
        let mounts = self.worker.volume_mounts.iter().flatten();
        let taken = [AGENT_DIR, certificates::DIR, spool::DIR];
        mounts.filter_map(move |mount| {
            let below = taken.into_iter().find(|dir| is_at_or_below(&mount.mount_path, dir))?;
            Some(format!(
                "spec.template.spec.containers[{}].volumeMounts: found the path {:?}, but {below} is Harmony's own; choose another",
                self.position, mount.mount_path
            ))
        })
    }

    /// Containers of a pod share their ports.
    fn ports(&self) -> impl Iterator<Item = String> {
        let ports = self.containers().flat_map(|container| container.ports.iter().flatten());
        let names = [LINK_PORT_NAME, METRICS_PORT_NAME];
        let numbers = [LINK_PORT, METRICS_PORT].map(i32::from);
        let taken = ports.filter(move |port| {
            let name = port.name.as_deref();
            name.is_some_and(|name| names.contains(&name)) || numbers.contains(&port.container_port)
        });
        taken.map(|port| {
            let (number, name) = (port.container_port, port.name.as_deref().unwrap_or_default());
            format!(
                "spec.template.spec.containers: found port {number} with the name {name:?}, but {LINK_PORT} ({LINK_PORT_NAME}) \
                 and {METRICS_PORT} ({METRICS_PORT_NAME}) are Harmony's own; choose another"
            )
        })
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        self.pod.containers.iter().chain([&self.worker])
    }
}

fn is_at_or_below(path: &str, dir: &str) -> bool {
    std::path::Path::new(path).starts_with(dir)
}
