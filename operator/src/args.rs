//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use harmony_admin::AdminArgs;
use harmony_telemetry::LogArgs;
use harmony_transport::LinkArgs;

use crate::reconcile::build::Delivery;
use harmony_ventilator::source::HostPattern;

/// Runs `HarmonyBatch` resources: makes their pods, and is the ventilator of each.
#[derive(Parser, Clone, Debug)]
#[command(name = "harmony-operator", version = harmony_protocol::RELEASE)]
pub struct Program {
    /// What to do; without a command it runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How it runs.
    #[command(flatten)]
    pub args: OperatorArgs,
}

/// What else the program does.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Print the `CustomResourceDefinition` of `HarmonyBatch`, for `kubectl apply`
    Crd,
}

/// How the operator runs. Inside a pod the downward API gives what has an environment variable.
#[derive(clap::Args, Clone, Debug)]
pub struct OperatorArgs {
    /// The namespace that this operator runs in: its lease is there, and pods of batches let it in.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        default_value = "harmony-system",
        value_name = "NAMESPACE"
    )]
    pub namespace: String,
    /// The name of this operator's pod, as its lease shows it.
    #[arg(long, env = "POD_NAME", default_value = "harmony-operator", value_name = "NAME")]
    pub pod_name: String,
    /// A namespace whose batches are run; may be given several times. Without it, those of the whole cluster are.
    ///
    /// With it nothing is asked for across namespaces, so that a Role in each of them is all the rights it needs.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,
    /// A host that tasks may be read from, `*.DOMAIN` for all below one; may be given several times. Without it, any host.
    #[arg(long = "source-host", value_name = "HOST")]
    pub source_hosts: Vec<HostPattern>,
    /// The image with `harmony`: the collector runs it, and workers get their agent from it.
    #[arg(long, env = "HARMONY_IMAGE", default_value = "harmony:dev", value_name = "IMAGE")]
    pub image: String,
    /// When that image is pulled: Always, `IfNotPresent` or Never.
    #[arg(long, default_value = "IfNotPresent", value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
    /// A Secret that the image is pulled with; may be given several times. The pods of batches name it, so it must be in
    /// their namespaces.
    #[arg(long = "image-pull-secret", value_name = "SECRET")]
    pub image_pull_secrets: Vec<String>,
    /// How the image's program comes into worker pods.
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub agent_delivery: Delivery,
    /// Let the pods of batches say by annotations (`prometheus.io/scrape`) where their metrics are.
    #[arg(long)]
    pub scrape_annotations: bool,
    /// The folder for tasks that can be read only once, such as those behind a URL. What an earlier process left there is
    /// removed: each operator needs a folder of its own.
    #[arg(long, default_value = "/var/lib/harmony", value_name = "DIR")]
    pub spool_dir: PathBuf,
    /// Bytes that the tasks of one batch may take in that folder.
    #[arg(long, default_value_t = 16 << 30, value_name = "BYTES")]
    pub max_spool_bytes: u64,
    /// Bytes that the tasks of all batches may take in that folder together: less than its volume holds.
    #[arg(long, default_value_t = 18 << 30, value_name = "BYTES")]
    pub max_spool_bytes_total: u64,
    /// Metrics, health and state.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// What is logged.
    #[command(flatten)]
    pub logs: LogArgs,
    /// How links to pods are protected.
    #[command(flatten)]
    pub link: LinkArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn namespaces_and_hosts_may_be_several() {
        let words = "harmony-operator --watch-namespace=a --watch-namespace=b --source-host=*.example.org --source-host=a.example";
        let args = Program::try_parse_from(words.split(' ')).unwrap().args;
        assert_eq!(args.watch_namespaces, ["a", "b"]);
        let hosts: Vec<_> = args.source_hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["*.example.org", "a.example"]);
        let error = Program::try_parse_from(["harmony-operator", "--source-host=https://a.example"]).unwrap_err();
        assert!(error.to_string().contains("without scheme"), "{error}");
    }
}
