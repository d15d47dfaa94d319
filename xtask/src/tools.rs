//! What the steps need beside Rust, and how it is installed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::context::{Context, succeed, works};
use crate::step::Outcome;

/// Programs that tests call, each with the argument by which it shows that it is there, and its Debian package.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("python3", "--version", "python3"),   // tests compare with what a plain filter gives
    ("mkfs.ext4", "-V", "e2fsprogs"),      // disks of a test's own, which can be frozen and slowed down
    ("valgrind", "--version", "valgrind"), // instructions are counted
    // A local Kubernetes.
    ("etcd", "--version", "etcd-server"),
    ("containerd", "--version", "containerd"),
    ("runc", "--version", "runc"),
    ("/usr/lib/cni/bridge", "--version", "containernetworking-plugins"),
    ("ip", "-V", "iproute2"),
    ("iptables", "--version", "iptables"),
    ("nft", "--version", "nftables"),
    ("conntrack", "--version", "conntrack"),
    // Alerts.
    ("promtool", "--version", "prometheus"),
    // Images.
    ("buildah", "--version", "buildah"),
    ("busybox", "--help", "busybox-static"),
    ("python3", "-cimport ensurepip", "python3-venv"), // hadolint comes by pip
];

/// The cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "0.20.2";

/// Installs the system packages that are missing, if that is allowed.
pub(crate) fn packages(context: &Context) -> Result<Outcome> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, argument, _)| !works(context.command(program).arg(argument)))
        .map(|(_, _, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(Outcome::PASSED);
    }
    let names = missing.join(", ");
    if !context.install {
        return Ok(Outcome::Skipped(format!(
            "{names} missing: --install installs it, as root"
        )));
    }
    succeed(context.command("apt-get").arg("update"))?;
    let mut install = context.command("apt-get");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&missing);
    succeed(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(Outcome::Passed(format!("installed {names}")))
}

/// Runs cargo-deny, installed into the cache folder first if that is allowed.
pub(crate) fn deny(context: &Context) -> Result<Outcome> {
    let root = context.cache.join("tools").join(format!("cargo-deny-{CARGO_DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        if !context.install {
            let reason = format!(
                "cargo-deny {CARGO_DENY} is not in {}: --install installs it",
                root.display()
            );
            return Ok(Outcome::Skipped(reason));
        }
        install_deny(context, &root).context("cargo-deny cannot be installed")?;
    }
    let mut deny = context.command(program);
    if context.strict {
        deny.arg("--locked");
    }
    succeed(deny.args([
        "--workspace",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))?;
    Ok(Outcome::PASSED)
}

/// Built without its author's settings for a release: it runs for a second, and building it takes minutes as it is.
fn install_deny(context: &Context, root: &PathBuf) -> Result<()> {
    let mut install = context.cargo("install");
    install
        .args(["cargo-deny", "--version", CARGO_DENY, "--locked", "--root"])
        .arg(root)
        .env("CARGO_TARGET_DIR", build_folder(root))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    succeed(&mut install)?;
    std::fs::remove_dir_all(build_folder(root)).context("what its build left cannot be removed")
}

/// Kept until the installation succeeds, so that an interrupted one goes on where it was.
fn build_folder(root: &Path) -> PathBuf {
    root.join("build")
}
