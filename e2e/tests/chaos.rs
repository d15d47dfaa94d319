//! One fault after another on one batch, which goes on after each: nothing is missing at its end, nothing is there twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harmony_api::conventions::{COLLECTOR_ROLE, WORKER_ROLE};
use harmony_e2e::{
    Course, Killer, LocalCluster, Scenario, Scrape, batch, condition, delete_by_force, doubler, ensure_installed,
    eventually, kubectl, leader, scenario,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::sync::Mutex;

/// What one test breaks, another one needs.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What is promised for the replacement of a worker.
const REPLACED_WITHIN: Duration = Duration::from_secs(30);

/// How long faults go on in the long form.
const LONG: Duration = Duration::from_mins(5);

const NODES: [&str; 2] = ["node-0", "node-1"];

/// A batch under faults.
struct Chaos<'a> {
    test: &'a Scenario,
    cluster: LocalCluster,
    course: Course<'a>,
}

impl<'a> Chaos<'a> {
    /// The collector may be anywhere, or on one node alone.
    async fn begin(test: &'a Scenario, tasks: u32, collector_on: Option<&str>) -> Result<Self> {
        let node = collector_on.map(|node| format!(", nodeSelector: {{kubernetes.io/hostname: {node}}}"));
        let collector = format!(
            "collector: {{storage: {{size: 1Gi, storageClassName: shared}}{}}}",
            node.unwrap_or_default()
        );
        let fields = ["parallelism: 4", "slotsPerWorker: 4", &doubler("0.5"), &collector];
        let course = Course::begin(test, "b", tasks, &fields).await?;
        course.until(20.0).await?;
        Ok(Self {
            test,
            cluster: LocalCluster::of_kubeconfig()?,
            course,
        })
    }

    /// Each kind of fault once, the next one when results come again.
    async fn round(&self) -> Result<()> {
        self.kill_worker().await?;
        self.kill_collector().await?;
        self.kill_leader().await?;
        self.lose_node().await?;
        self.drain_node().await
    }

    async fn kill_worker(&self) -> Result<()> {
        let pod = self.course.at_work(WORKER_ROLE).await?;
        delete_by_force(&pod).await?;
        let before = self.course.until(0.0).await?;
        self.course.goes_on("worker killed", before).await.map(drop)
    }

    async fn kill_collector(&self) -> Result<()> {
        let pod = self.course.at_work(COLLECTOR_ROLE).await?;
        delete_by_force(&pod).await?;
        self.course.goes_on_elsewhere("collector killed", &pod).await.map(drop)
    }

    /// By SIGKILL: one whose pod is deleted still gives its lease back.
    async fn kill_leader(&self) -> Result<()> {
        let (pod, _) = Scrape::of_leader(&self.test.client).await?;
        let killer = Killer::of(&pod).await?;
        let led = leader().await?;
        let before = self.course.until(0.0).await?;
        killer.kill().await?;
        let killed = Instant::now();
        eventually("another leader", Duration::from_mins(2), async || {
            let now = leader().await?;
            ensure!(now != led, "still {led}");
            Ok(())
        })
        .await?;
        println!(
            "another operator leads {:.1?} after the leader was killed",
            killed.elapsed()
        );
        self.course
            .goes_on("leader killed and replaced", before)
            .await
            .map(drop)
    }

    /// The one with the collector, or the other one if the collector cannot move.
    async fn lose_node(&self) -> Result<()> {
        let collector = self.course.at_work(COLLECTOR_ROLE).await?;
        let home = collector.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let moves = collector.spec.as_ref().is_some_and(|spec| spec.node_selector.is_none());
        let lost = NODES.into_iter().find(|node| (home.as_deref() == Some(node)) == moves);
        let lost = lost.unwrap_or(NODES[1]);
        let node = self.cluster.node(lost)?;
        let down = node.lose()?;
        if moves {
            self.course
                .goes_on_elsewhere("node of the collector lost", &collector)
                .await?;
        } else {
            let before = self.course.until(0.0).await?;
            self.course.goes_on("node lost", before).await?;
        }
        drop(down);
        all_ready().await
    }

    async fn drain_node(&self) -> Result<()> {
        let collector = self.course.at_work(COLLECTOR_ROLE).await?;
        let home = collector.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let drained = NODES.into_iter().find(|node| home.as_deref() != Some(node));
        let drained = drained.unwrap_or(NODES[1]);
        let flags = [
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--timeout=180s",
        ];
        let outcome = kubectl(&[&["drain", drained], flags.as_slice()].concat()).await;
        let went_on = match outcome {
            Ok(_) => {
                let before = self.course.until(0.0).await?;
                self.course.goes_on("node drained", before).await.map(drop)
            }
            Err(error) => Err(error),
        };
        kubectl(&["uncordon", drained]).await?;
        went_on
    }
}

async fn all_ready() -> Result<()> {
    let wait = ["wait", "node", "--all", "--for=condition=Ready", "--timeout=60s"];
    kubectl(&wait).await.map(drop)
}

#[tokio::test]
async fn every_fault_once() -> Result<()> {
    let _alone = ALONE.lock().await;
    ensure_installed().await?;
    scenario(async |test| {
        let chaos = Chaos::begin(test, 1_500, Some(NODES[0])).await?;
        Box::pin(chaos.round()).await?;
        chaos.course.ends_well().await
    })
    .await
}

#[tokio::test]
#[ignore = "some ten minutes"]
async fn every_fault_in_turn_for_five_minutes() -> Result<()> {
    let _alone = ALONE.lock().await;
    ensure_installed().await?;
    scenario(async |test| {
        let chaos = Chaos::begin(test, 10_000, None).await?;
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < LONG {
            Box::pin(chaos.round()).await?;
            rounds += 1;
        }
        println!("{rounds} rounds of faults in {:.0?}", begun.elapsed());
        chaos.course.ends_well().await
    })
    .await
}

/// The one worker that is ready and stays, if it is another one than those that were killed.
async fn ready_worker(test: &Scenario, killed: &BTreeSet<String>) -> Result<Pod> {
    eventually("a worker that is ready", REPLACED_WITHIN, async || {
        for pod in test.pods_of("b", WORKER_ROLE).await? {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
            let ready = conditions.unwrap_or_default().iter();
            let ready = ready
                .into_iter()
                .any(|told| told.type_ == "Ready" && told.status == "True");
            if ready && pod.metadata.deletion_timestamp.is_none() && !killed.contains(&pod.name_any()) {
                return Ok(pod);
            }
        }
        bail!("none is")
    })
    .await
}

/// Each is killed the moment it is ready, so none of them gets anything done.
#[tokio::test]
async fn ten_workers_killed_in_a_row_are_replaced_each() -> Result<()> {
    const TASKS: u64 = 12;
    let _alone = ALONE.lock().await;
    ensure_installed().await?;
    scenario(async |test| {
        // Longer than a pod takes to be ready, and the two seconds that it has after a deletion by force.
        let fields = format!(
            "completions: {TASKS}\nslotsPerWorker: 4\nparallelism: 1\nbackoffLimitPerIndex: 0\n{}",
            doubler("8")
        );
        test.apply(&batch("b", &fields)).await?;
        let mut killed = BTreeSet::new();
        let mut times = Vec::new();
        let mut pod = ready_worker(test, &killed).await?;
        for _ in 0..10 {
            delete_by_force(&pod).await?;
            let begun = Instant::now();
            killed.insert(pod.name_any());
            pod = ready_worker(test, &killed).await?;
            times.push(format!("{:.1}", begun.elapsed().as_secs_f32()));
        }
        println!("each replaced after {} s", times.join(", "));
        let done = test.wait_complete("b", Duration::from_mins(2)).await?;
        ensure!(condition(&done, "Failed").is_none());
        let results = test.results("b").await?;
        harmony_e2e::all_right(&results, TASKS, |number| format!("{}\n", number * 2))
    })
    .await
}
