//! The programs of a cluster that no package has: built from Go modules, once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::context::{Context, output, succeed, works};

/// A folder of `e2e/tools/` and what is built there.
struct Module {
    folder: &'static str,
    programs: &'static [&'static str],
    flags: &'static str,
    /// What of a program is built, for those that can do without parts.
    tags: &'static str,
}

/// The version is what `e2e/tools/kubernetes/go.mod` requires; the API server tells it to its clients.
const KUBERNETES: Module = Module {
    folder: "kubernetes",
    programs: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubelet",
    ],
    flags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 \
            -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34",
    tags: "",
};

/// Built only where PATH has none.
const KUBECTL: Module = Module {
    programs: &["k8s.io/kubernetes/cmd/kubectl"],
    ..KUBERNETES
};

/// Built only where PATH has none.
const HELM: Module = Module {
    folder: "helm",
    programs: &["helm.sh/helm/v4/cmd/helm"],
    flags: "-s -w",
    tags: "",
};

const COREDNS: Module = Module {
    folder: "coredns",
    programs: &["github.com/coredns/coredns"],
    flags: "-s -w",
    tags: "",
};

/// Debian's cannot find pods; of this one nothing else is built that finds targets.
const PROMETHEUS: Module = Module {
    folder: "prometheus",
    programs: &["github.com/prometheus/prometheus/cmd/prometheus"],
    flags: "-s -w",
    tags: "remove_all_sd,enable_kubernetes_sd",
};

/// Whether there is what builds the programs.
pub(super) fn can_build(context: &Context) -> bool {
    works(context.command("go").arg("version"))
}

/// Builds what is missing or was built otherwise. The first time takes some ten minutes on two cores.
pub(super) fn build(context: &Context) -> Result<()> {
    build_module(context, "kubernetes", &KUBERNETES)?;
    build_module(context, "coredns", &COREDNS)?;
    build_clients(context)
}

/// Builds what people talk to a cluster with, where PATH does not have it.
pub(super) fn build_clients(context: &Context) -> Result<()> {
    if !works(context.command("kubectl").args(["version", "--client"])) {
        build_module(context, "kubectl", &KUBECTL)?;
    }
    if !works(context.command("helm").arg("version")) {
        build_module(context, "helm", &HELM)?;
    }
    Ok(())
}

/// Commands find what was built behind what PATH has.
pub(super) fn with_clients(context: &Context) -> Result<Context> {
    let path = env::var_os("PATH").unwrap_or_default();
    let built = programs(context);
    let path = env::join_paths(env::split_paths(&path).chain([built])).context("PATH cannot be extended")?;
    Ok(context.with("PATH", &path))
}

/// Builds Prometheus, and says where it is.
pub(super) fn prometheus(context: &Context) -> Result<PathBuf> {
    build_module(context, "prometheus", &PROMETHEUS)?;
    Ok(programs(context).join("prometheus"))
}

/// The folder of the Prometheus operator's module, of which nothing is built: the definitions of its kinds are there.
pub(super) fn prometheus_operator(context: &Context) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Module {
        dir: PathBuf,
    }
    let mut download = context.command("go");
    download
        .args([
            "mod",
            "download",
            "-json",
            "github.com/prometheus-operator/prometheus-operator",
        ])
        .current_dir(context.root.join("e2e/tools/prometheus-operator"));
    let module: Module = serde_json::from_str(&output(&mut download)?)?;
    Ok(module.dir)
}

fn programs(context: &Context) -> PathBuf {
    tools(context).join("bin")
}

fn tools(context: &Context) -> PathBuf {
    context.cache.join("cluster-tools")
}

fn build_module(context: &Context, name: &str, module: &Module) -> Result<()> {
    let source = context.root.join("e2e/tools").join(module.folder);
    let (programs, stamp) = (programs(context), tools(context).join(format!("{name}.stamp")));
    let inputs = inputs(&source, module)?;
    if fs::read_to_string(&stamp).is_ok_and(|built| built == inputs) && all_there(&programs, module) {
        return Ok(());
    }
    fs::create_dir_all(&programs)?;
    let mut build = context.command("go");
    build
        .args([
            "build",
            "-trimpath",
            "-tags",
            module.tags,
            "-ldflags",
            module.flags,
            "-o",
        ])
        .arg(&programs)
        .args(module.programs)
        .current_dir(&source)
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", tools(context).join("go-build"));
    succeed(&mut build)?;
    Ok(fs::write(&stamp, inputs)?)
}

/// All that decides what the programs are: compared as it is, since it is small.
fn inputs(source: &Path, module: &Module) -> Result<String> {
    let mut inputs = format!("{}\n{}\n{}\n", module.tags, module.flags, module.programs.join("\n"));
    for file in ["go.mod", "go.sum"] {
        let path = source.join(file);
        inputs += &fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    }
    Ok(inputs)
}

fn all_there(folder: &Path, module: &Module) -> bool {
    let name = |program: &&str| Path::new(program).file_name().map(|name| folder.join(name));
    module
        .programs
        .iter()
        .all(|program| name(program).is_some_and(|path| path.is_file()))
}
