//! The course of a batch that is disturbed: how far it is, who works on it, and that all is well at its end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harmony_api::conventions::{COLLECTOR_ROLE, WORKER_ROLE};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::{Scenario, Scrape, all_right, batch_on_all_nodes, eventually};

/// For anything that a batch does on a busy machine, disturbed or not.
const WITHIN: Duration = Duration::from_mins(5);

/// A batch whose tasks print twice their number, with a worker on each node.
pub struct Course<'a> {
    test: &'a Scenario,
    name: String,
    tasks: u32,
}

/// The leader's view of a batch.
struct View {
    succeeded: f64,
    in_flight: f64,
}

/// The executor whose tasks take so many seconds.
pub fn doubler(seconds: &str) -> String {
    format!("executor: {{exec: {{command: [sh, -c, 'sleep {seconds}; echo $((HARMONY_TASK * 2))']}}}}")
}

impl<'a> Course<'a> {
    /// Creates the batch: so many tasks, and further fields of its spec; the executor is a [`doubler`] or a `Counter`'s.
    pub async fn begin(test: &'a Scenario, name: &str, tasks: u32, fields: &[&str]) -> Result<Self> {
        let fields = format!("completions: {tasks}\n{}", fields.join("\n"));
        test.apply(&batch_on_all_nodes(name, fields.trim())).await?;
        let name = name.to_owned();
        Ok(Self { test, name, tasks })
    }

    /// The batch's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn view(&self) -> Result<View> {
        let (_, scrape) = Scrape::of_leader(&self.test.client).await?;
        let tasks = |state| scrape.tasks(&self.test.namespace, &self.name, state);
        Ok(View {
            succeeded: tasks("succeeded"),
            in_flight: tasks("in_flight"),
        })
    }

    /// Waits until so many tasks are recorded and others are in flight, and gives the number recorded.
    pub async fn until(&self, recorded: f64) -> Result<f64> {
        eventually("tasks to be recorded and in flight", WITHIN, async || {
            let View { succeeded, in_flight } = self.view().await?;
            ensure!(
                succeeded >= recorded && in_flight > 0.0,
                "{succeeded} recorded, {in_flight} in flight"
            );
            ensure!(
                succeeded < f64::from(self.tasks),
                "all is recorded: what is to happen now would come too late"
            );
            Ok(succeeded)
        })
        .await
    }

    /// Waits for the first new result after something happened, and prints how long it took.
    pub async fn goes_on(&self, what: &str, before: f64) -> Result<Duration> {
        let happened = Instant::now();
        eventually("a new result", WITHIN, async || {
            let View { succeeded, .. } = self.view().await?;
            ensure!(succeeded > before, "still {succeeded} recorded");
            Ok(())
        })
        .await?;
        let elapsed = happened.elapsed();
        println!("{what}: first new result after {elapsed:.1?}");
        Ok(elapsed)
    }

    /// A pod of the batch that works now.
    pub async fn at_work(&self, role: &str) -> Result<Pod> {
        eventually("a pod that works", WITHIN, async || {
            for pod in self.test.pods_of(&self.name, role).await? {
                let Ok(scrape) = Scrape::of(&self.test.namespace, &pod.name_any()).await else {
                    continue;
                };
                let holds = match role {
                    WORKER_ROLE => scrape.sum("harmony_worker_tasks", &[("state", "running")]),
                    _ => scrape.sum("harmony_collector_tasks", &[]),
                };
                if holds > 0.0 && pod.metadata.deletion_timestamp.is_none() {
                    return Ok(pod);
                }
            }
            bail!("none does")
        })
        .await
    }

    /// Waits for the first result that another collector pod than this one records, and prints how long it took.
    pub async fn goes_on_elsewhere(&self, what: &str, before: &Pod) -> Result<Duration> {
        let happened = Instant::now();
        let mut brought = None;
        eventually("another collector to record", WITHIN, async || {
            let pod = self.at_work(COLLECTOR_ROLE).await?;
            ensure!(pod.uid() != before.uid(), "still the same pod");
            let scrape = Scrape::of(&self.test.namespace, &pod.name_any()).await?;
            let recorded = scrape.sum("harmony_collector_tasks", &[]);
            // What it found in its log, at most.
            let brought = *brought.get_or_insert(recorded);
            ensure!(recorded > brought, "it has {brought} tasks and records no other");
            Ok(())
        })
        .await?;
        let elapsed = happened.elapsed();
        println!("{what}: first new result after {elapsed:.1?}");
        Ok(elapsed)
    }

    /// Waits for the end and looks at every result.
    pub async fn ends_well(&self) -> Result<()> {
        self.test.wait_complete(&self.name, WITHIN).await?;
        ensure!(self.test.failed(&self.name).await?.is_empty());
        let results = self.test.results(&self.name).await?;
        all_right(&results, u64::from(self.tasks), |number| format!("{}\n", number * 2))
    }
}
