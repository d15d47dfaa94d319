//! The life of an operator: it stands by, leads, and leaves.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use harmony_admin::Inspections;
use harmony_ventilator::source::{Reach, SourceConfig, SpoolRoom};
use kube::client::ClientBuilder;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::args::{Command, OperatorArgs, Program};
use crate::context::Context;
use crate::controller;
use crate::explain;
use crate::leader::{self, Leader, Role};
use crate::metrics::{Counters, Snapshot};
use crate::reconcile::build::{Links, Settings};
use crate::requests::Requests;
use crate::statuses::Statuses;
use crate::ventilators::{self, Ventilators};

/// How long the API server may be silent in a call: far longer than it takes when it is slow.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Wake-ups that wait; a ventilator keeps one that does not fit.
const WAKES: usize = 1_024;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let Program { command, args } = Program::parse();
    let done = match command {
        Some(Command::Crd) => print_crd(),
        None => start(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> Result<()> {
    print!("{}", harmony_api::crd_yaml()?);
    Ok(())
}

fn start(args: &OperatorArgs) -> Result<()> {
    let _telemetry = harmony_telemetry::init(&args.logs, "info");
    // Two providers may be linked in; rustls must not have to guess.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a rustls provider was installed before");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(args));
    runtime.shutdown_background();
    outcome
}

async fn run(args: &OperatorArgs) -> Result<()> {
    let links = links(args)?;
    ventilators::remove_leftovers(&args.spool_dir)
        .with_context(|| format!("--spool-dir {} cannot be tidied up", args.spool_dir.display()))?;
    let mut config = Config::infer()
        .await
        .context("the API server cannot be found: neither a service account nor a kubeconfig is here")?;
    // Passes and watches pause by themselves, and not for minutes.
    config.default_retry = false;
    // A watch is silent while nothing happens, and has a limit of its own.
    let registry = Registry::new();
    let requests = Requests::register(&registry)?;
    let client =
        |config: Config| -> Result<Client> { Ok(ClientBuilder::try_from(config)?.with_layer(&requests).build()) };
    let watching = client(config.clone())?;
    let client = client(impatient(config))?;
    let identity = format!("{}_{}", args.pod_name, uuid::Uuid::new_v4());
    let (leader, role) = Leader::new(client.clone(), &args.namespace, identity.clone());
    let (wake, wakes) = mpsc::channel(WAKES);
    let ventilators = Ventilators::new(ventilators::Settings {
        name: args.pod_name.clone(),
        spool_dir: args.spool_dir.clone(),
        spool_room: SpoolRoom::new(args.max_spool_bytes_total),
        transport: args.link.config(),
        wake,
    });
    let statuses = Statuses::default();
    let counters = Arc::new(Counters::register(&registry)?);
    let (inspector, inspections) = harmony_admin::inspections();
    let routes = explain::routes(role.clone(), ventilators.clone());
    let _admin = harmony_admin::start(&args.admin, inspector, registry, routes)?;
    tokio::spawn(answer(inspections, role.clone(), ventilators.clone(), statuses.clone()));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let leading = tokio::spawn(leader.run());
    let mut waiting = role.clone();
    tokio::select! {
        _ = waiting.wait_for(|role| *role == Role::Leader) => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    tracing::info!(identity, "leading");
    let (pods, scopes) = controller::scopes(&args.watch_namespaces);
    let reporter = Reporter {
        controller: "harmony-operator".to_owned(),
        instance: Some(args.pod_name.clone()),
    };
    let context = Arc::new(Context::new(
        client.clone(),
        settings(args, links),
        source(args),
        role,
        pods,
        ventilators.clone(),
        statuses,
        Recorder::new(client.clone(), reporter),
        counters,
    ));
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        // Whoever drops the sender means the same.
        let _ = stopped.await;
    };
    let controlling = tokio::spawn(controller::run(context, watching, scopes, wakes, stopped));
    let deposed = tokio::select! {
        _ = leading => true,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    drop(stop);
    ventilators.stop_all().await;
    controlling.abort();
    if deposed {
        bail!("another operator leads now; this one begins anew as a standby");
    }
    leader::release(client, &args.namespace, &identity)
        .await
        .context("the lease cannot be given back")
}

/// A call that is never answered must not keep a batch, or the lease, from the next one.
fn impatient(mut config: Config) -> Config {
    config.read_timeout = Some(ANSWER_WITHIN);
    // What counts is the silence after a request, not that before it.
    config.reset_reader_on_write = true;
    config
}

/// Answers what the endpoints ask.
async fn answer(
    mut inspections: Inspections<Snapshot>,
    role: watch::Receiver<Role>,
    ventilators: Ventilators,
    statuses: Statuses,
) {
    while let Some(inspection) = inspections.next().await {
        let role = *role.borrow();
        inspection.answer(Snapshot::take(role, &ventilators, &statuses).await);
    }
}

fn links(args: &OperatorArgs) -> Result<Links> {
    match (args.link.insecure_tcp, &args.link.tls_ca) {
        (_, Some(_)) => Ok(Links::MutualTls),
        (true, None) => Ok(Links::InsecureTcp),
        (false, None) => bail!(
            "links to pods are neither protected nor allowed to be open: give --insecure-tcp, and let network policies keep \
             others out, or give --tls-ca, --tls-certificate and --tls-key"
        ),
    }
}

/// Tasks come from where users say, so neither this pod's own services nor its node's may be asked for them.
fn source(args: &OperatorArgs) -> SourceConfig {
    SourceConfig {
        max_spool_bytes: args.max_spool_bytes,
        reach: Reach::NotLocal {
            hosts: args.source_hosts.as_slice().into(),
        },
        ..SourceConfig::new(&args.spool_dir, &args.spool_dir)
    }
}

fn settings(args: &OperatorArgs, links: Links) -> Settings {
    Settings {
        image: args.image.clone(),
        image_pull_policy: Some(args.image_pull_policy.clone()),
        image_pull_secrets: args.image_pull_secrets.clone(),
        delivery: args.agent_delivery,
        links,
        operator_namespace: args.namespace.clone(),
        scrape_annotations: args.scrape_annotations,
        trace_flags: args.logs.trace_flags(),
    }
}
