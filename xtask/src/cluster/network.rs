//! Two network namespaces: one joined to this side, the other to the first.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::layout::{Layout, Node, dotted};
use crate::context::works;

/// Makes the namespaces, the links and the routes.
pub(super) fn up(layout: &Layout) -> Result<()> {
    let [first, second] = &layout.nodes;
    for node in &layout.nodes {
        ip(&format!("netns add {}", node.namespace))?;
        ip(&format!("-n {} link set lo up", node.namespace))?;
        forward(node)?;
    }
    let cable = layout.name();
    ip(&format!(
        "link add {cable} type veth peer name outside netns {}",
        first.namespace
    ))?;
    ip(&format!("address add {}/30 dev {cable}", dotted(layout.outside())))?;
    ip(&format!("link set {cable} up"))?;
    address(first, "outside", first.address)?;

    ip(&format!(
        "-n {} link add second type veth peer name first netns {}",
        first.namespace, second.namespace
    ))?;
    let gateway = [100, 64 + layout.index, 1, 1];
    address(first, "second", gateway)?;
    address(second, "first", second.address)?;
    let via = |route: &str, gateway| format!("route add {route} via {}", dotted(gateway));
    ip(&format!(
        "-n {} {}",
        first.namespace,
        via(&second.pod_range, second.address)
    ))?;
    // The second node's way to the first's address and pods alike.
    ip(&format!("-n {} {}", second.namespace, via("default", gateway)))?;

    // The first has a default route too, since without one the kernel refuses service addresses before they are
    // translated. It leads nowhere: nothing in the cluster reaches any outside network.
    ip(&format!(
        "-n {} link add nowhere type veth peer name nowhere-end",
        first.namespace
    ))?;
    address(first, "nowhere", [100, 64 + layout.index, 2, 1])?;
    ip(&format!("-n {} link set nowhere-end up", first.namespace))?;
    ip(&format!("-n {} route add default dev nowhere", first.namespace))
}

/// Removes the namespaces; the links go with them.
pub(super) fn down(layout: &Layout) {
    works(Command::new("ip").args(["link", "delete", &layout.name()]));
    for node in &layout.nodes {
        works(Command::new("ip").args(["netns", "delete", &node.namespace]));
    }
}

fn address(node: &Node, link: &str, address: [u8; 4]) -> Result<()> {
    ip(&format!(
        "-n {} address add {}/30 dev {link}",
        node.namespace,
        dotted(address)
    ))?;
    ip(&format!("-n {} link set {link} up", node.namespace))
}

/// A namespace has settings of its own; writing them needs no program but a shell.
fn forward(node: &Node) -> Result<()> {
    let mut shell = Command::new("nsenter");
    shell.arg(format!("--net=/run/netns/{}", node.namespace));
    shell.args(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    if !works(&mut shell) {
        bail!("{} cannot be made to forward packets: is this root?", node.namespace);
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .context("ip cannot be started: is iproute2 installed?")?;
    if !output.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
