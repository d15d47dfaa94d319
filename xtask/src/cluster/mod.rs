//! A real Kubernetes of two nodes on this machine: each a network namespace, all its programs plain processes.

mod certificates;
mod components;
mod control_plane;
mod dns;
mod harmony_image;
mod images;
mod layout;
mod network;
mod node;
mod process;
mod storage;
mod teardown;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

pub(crate) use layout::{CLUSTERS, Layout};

use crate::context::{Context, output, works};
use process::wait_until;

/// How long the nodes may take until pods can start: six seconds, more on a machine that is busy.
const NODES_READY_WITHIN: Duration = Duration::from_mins(2);

/// Programs that are called, each with the argument that shows whether it is there.
const PROGRAMS: [[&str; 2]; 9] = [
    ["etcd", "--version"],
    ["containerd", "--version"],
    ["runc", "--version"],
    ["ctr", "--version"],
    ["buildah", "--version"],
    ["ip", "-V"],
    ["nft", "--version"],
    ["iptables", "--version"],
    ["nsenter", "--version"],
];

/// Why there can be no cluster here, if so.
pub(crate) fn obstacle(context: &Context) -> Option<String> {
    if !fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        return Some("a cluster needs root, for network namespaces and containers".to_owned());
    }
    if !components::can_build(context) {
        return Some("Go is missing, which builds Kubernetes: https://go.dev/doc/install".to_owned());
    }
    let missing = PROGRAMS
        .iter()
        .find(|[program, version]| !works(context.command(program).arg(version)));
    missing.map(|[program, _]| format!("{program} is missing: `cargo xtask test --install packages` installs it"))
}

/// Brings a cluster up, unless it is. What is there of one that is broken goes first.
pub(crate) fn up(context: &Context, layout: &Layout) -> Result<()> {
    if let Some(obstacle) = obstacle(context) {
        bail!(obstacle);
    }
    if is_up(layout) {
        println!("it is up already");
        return Ok(());
    }
    components::build(context)?;
    let images = images::build_small(context)?;
    teardown::down(layout)?;
    let started = Instant::now();
    start(layout, &images).with_context(|| {
        let index = layout.index;
        format!(
            "the cluster did not come up; {} tells more, and `cargo xtask cluster down --index {index}` removes all",
            layout.logs().display()
        )
    })?;
    println!("up after {:.1} s", started.elapsed().as_secs_f32());
    Ok(())
}

/// Takes a cluster down, whatever of it is there.
pub(crate) fn down(layout: &Layout) -> Result<()> {
    teardown::down(layout)
}

/// What watches the cluster in tests: Prometheus, and the folder of the Prometheus operator's module.
pub(crate) fn monitoring(context: &Context) -> Result<(PathBuf, PathBuf)> {
    Ok((
        components::prometheus(context)?,
        components::prometheus_operator(context)?,
    ))
}

/// Builds kubectl and Helm where PATH has none, and lets the commands of a context find them.
pub(crate) fn with_clients(context: &Context) -> Result<Context> {
    components::build_clients(context)?;
    components::with_clients(context)
}

/// Builds Harmony's programs from the checkout as it is, in a cargo profile, and says where `harmony` is.
pub(crate) fn build_harmony(context: &Context, profile: &str) -> Result<PathBuf> {
    Ok(harmony_image::build_programs(context, profile)?.join("harmony"))
}

/// Does that and hands an image of them to every node, as `harmony:dev`.
pub(crate) fn load_harmony(context: &Context, layout: &Layout, profile: &str) -> Result<PathBuf> {
    if !is_up(layout) {
        bail!(
            "cluster {0} is not up: `cargo xtask cluster up --index {0}`",
            layout.index
        );
    }
    let programs = harmony_image::build_programs(context, profile)?;
    let images = [
        harmony_image::build(context, &programs)?,
        harmony_image::build_closure(context, &programs)?,
    ];
    images::load(layout, &images)?;
    // An operator that is installed goes on with what it was started from; one that is not has nothing to restart.
    let mut restart = control_plane::kubectl(layout);
    works(restart.args([
        "--namespace=harmony-system",
        "rollout",
        "restart",
        "deployment/harmony-operator",
    ]));
    Ok(programs.join("harmony"))
}

/// Builds a version after the checkout's and hands the image of it to every node, as `harmony:next`. To be called before
/// [`load_harmony`], whose programs then take the place of these.
pub(crate) fn load_next(context: &Context, layout: &Layout, profile: &str) -> Result<()> {
    images::load(layout, &[harmony_image::build_next(context, profile)?])
}

/// Whether everything that was started runs, and the API server is ready.
pub(crate) fn is_up(layout: &Layout) -> bool {
    layout.kubeconfig().is_file() && process::ended(layout).is_empty() && control_plane::is_ready(layout)
}

fn start(layout: &Layout, small_images: &[PathBuf]) -> Result<()> {
    for folder in [layout.logs(), layout.processes()] {
        fs::create_dir_all(folder)?;
    }
    network::up(layout)?;
    certificates::write(layout)?;
    control_plane::start_server(layout)?;
    for node in &layout.nodes {
        fs::create_dir_all(&node.folder)?;
        node::start_containerd(layout, node)?;
    }
    for node in &layout.nodes {
        node::wait_for_containerd(node)?;
    }
    images::load(layout, small_images)?;
    control_plane::wait_for_server(layout)?;
    control_plane::start_controllers(layout)?;
    for node in &layout.nodes {
        node::start_kubelet(layout, node)?;
    }
    dns::start_dns(layout)?;
    let objects = layout.folder.join("storage.yaml");
    fs::write(&objects, storage::objects(layout)?)?;
    let mut apply = control_plane::kubectl(layout);
    output(apply.args(["create", "--filename"]).arg(&objects))?;
    wait_for_nodes(layout)
}

/// A pod can start where its node is ready and its namespace has a service account.
fn wait_for_nodes(layout: &Layout) -> Result<()> {
    wait_until("ready nodes", NODES_READY_WITHIN, || {
        let mut wait = control_plane::kubectl(layout);
        wait.args(["wait", "node", "--all", "--for=condition=Ready", "--timeout=1s"]);
        let both = layout.nodes.iter().all(|node| exists(layout, "node", &node.name));
        if both && works(&mut wait) && exists(layout, "serviceaccount", "default") {
            return Ok(());
        }
        Err(format!(
            "ended: {:?}; logs: {}",
            process::ended(layout),
            layout.logs().display()
        ))
    })
}

fn exists(layout: &Layout, kind: &str, name: &str) -> bool {
    works(control_plane::kubectl(layout).args(["get", kind, name]))
}
