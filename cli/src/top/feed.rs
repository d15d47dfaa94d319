//! Looks at batches: those of a namespace, or the one of a folder.

use std::path::PathBuf;

use harmony_api::spec::HarmonyBatch;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::runtime::{Builder, Runtime};

use super::TopArgs;
use crate::batch_ref::BatchRef;
use crate::cluster::{Cluster, KubeArgs, explain};
use crate::exit::Failure;
use crate::explain::{Account, cluster, local};
use crate::local::LocalBatch;
use crate::status::{self, Overview};

/// What one look saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// All batches.
    pub(super) batches: Vec<Overview>,
    /// What is known of the one that is open.
    pub(super) detail: Option<Account>,
}

/// Where it looks.
pub(super) struct Feed {
    runtime: Runtime,
    place: Place,
    opened: Option<String>,
}

enum Place {
    Folder(PathBuf),
    /// The way to the cluster is found by the first look.
    Cluster {
        args: KubeArgs,
        operator: String,
        found: Option<Cluster>,
    },
}

impl Feed {
    pub(super) fn new(args: &TopArgs) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let (place, opened) = match &args.batch {
            Some(BatchRef::Folder(dir)) => {
                let name = LocalBatch::find(dir)?.record.name;
                (Place::Folder(dir.clone()), Some(name))
            }
            other => {
                let opened = match other {
                    Some(BatchRef::Name(name)) => Some(name.clone()),
                    _ => None,
                };
                let place = Place::Cluster {
                    args: args.kube.clone(),
                    operator: args.door.operator_namespace.clone(),
                    found: None,
                };
                (place, opened)
            }
        };
        Ok(Self {
            runtime: runtime.map_err(Failure::infrastructure)?,
            place,
            opened,
        })
    }

    /// The batch that was asked for.
    pub(super) fn opened(&self) -> Option<String> {
        self.opened.clone()
    }

    /// Looks at all batches, and at one of them closely.
    pub(super) fn look(&mut self, open: Option<&str>) -> Result<Seen, Failure> {
        match &mut self.place {
            Place::Folder(dir) => {
                let batch = LocalBatch::find(dir)?;
                let seen = batch.glance()?;
                let mut overview = status::local::overview(&batch, &seen)?;
                let detail = local::account(&batch, &seen, None)?;
                fill(&mut overview, &detail);
                Ok(Seen {
                    batches: vec![overview],
                    detail: Some(detail),
                })
            }
            Place::Cluster { args, operator, found } => self.runtime.block_on(async {
                let cluster = match found {
                    Some(cluster) => cluster,
                    None => found.insert(Cluster::find(args).await?),
                };
                look(cluster, operator, open).await
            }),
        }
    }
}

async fn look(cluster: &Cluster, operator: &str, open: Option<&str>) -> Result<Seen, Failure> {
    let namespace = &cluster.namespace;
    let batches: Vec<HarmonyBatch> = match cluster.batches().list(&ListParams::default()).await {
        Ok(found) => found.items,
        // Whoever may read the one batch is shown that.
        Err(error) => match open {
            Some(name) => vec![cluster.batch(name).await?],
            None => return Err(explain(&error, &format!("list batches in namespace {namespace}"))),
        },
    };
    let opened = batches.iter().find(|batch| Some(batch.name_any().as_str()) == open);
    let detail = match (opened, open) {
        (Some(batch), _) => Some(cluster::of(cluster, operator, batch, None).await),
        (None, Some(name)) => {
            cluster.batch(name).await?;
            None
        }
        (None, None) => None,
    };
    Ok(Seen {
        batches: batches.iter().map(Overview::from).collect(),
        detail,
    })
}

/// A folder's log tells less than its run.
fn fill(overview: &mut Overview, detail: &Account) {
    let Some(told) = &detail.ventilator else { return };
    let counts = overview.status.tasks.get_or_insert_default();
    counts.total = told.completions;
    counts.in_flight = told.in_flight;
    let ready = told.stages.get(&harmony_protocol::ventilator::WorkerStage::Ready);
    overview.status.ready = u32::try_from(ready.copied().unwrap_or_default()).unwrap_or(u32::MAX);
    overview.parallelism = u32::try_from(told.stages.values().sum::<u64>()).ok();
}
