//! Another version of the operator takes a batch over, and two operators at once have one: the fleet stays, and what is
//! recorded is not run again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harmony_api::conventions::{COLLECTOR_ROLE, WORKER_ROLE};
use harmony_e2e::{
    Counter, Course, LocalCluster, OPERATOR_NAMESPACE, Scenario, Scrape, delete_by_force, ensure_installed, eventually,
    install, kubectl, leader, restarts, scenario, upgrade,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use tokio::sync::Mutex;

/// There is one operator for all.
static ALONE: Mutex<()> = Mutex::const_new(());

const WITHIN: Duration = Duration::from_mins(2);

async fn begin<'a>(test: &'a Scenario, counter: &Counter, tasks: u32) -> Result<Course<'a>> {
    let fields = ["parallelism: 2", "slotsPerWorker: 2", &counter.executor("0.5")];
    let course = Course::begin(test, "b", tasks, &fields).await?;
    course.until(10.0).await?;
    Ok(course)
}

/// The pods of the batch by their names, and the uid of each.
async fn fleet(test: &Scenario) -> Result<BTreeMap<String, String>> {
    let mut fleet = BTreeMap::new();
    for role in [WORKER_ROLE, COLLECTOR_ROLE] {
        let pods = test.pods_of("b", role).await?.into_iter();
        fleet.extend(pods.map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())));
    }
    Ok(fleet)
}

/// What the leading operator calls its own version, and the image that it runs.
async fn version(test: &Scenario) -> Result<(String, String)> {
    eventually("an operator that leads", WITHIN, async || {
        let (pod, _) = Scrape::of_leader(&test.client).await?;
        let (name, program) = (pod.name_any(), "/bin/harmony-operator");
        let said = kubectl(&[
            "exec",
            &name,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--",
            program,
            "--version",
        ])
        .await?;
        let image = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
        Ok((said.trim().to_owned(), image.context("no image")?))
    })
    .await
}

#[tokio::test]
async fn an_upgrade_and_the_way_back_leave_the_fleet_alone() -> Result<()> {
    let _alone = ALONE.lock().await;
    ensure_installed().await?;
    let outcome = scenario(async |test| Box::pin(there_and_back(test)).await).await;
    // Other tests want the version of the checkout.
    install().await?;
    outcome
}

async fn there_and_back(test: &Scenario) -> Result<()> {
    let counter = Counter::start(test).await?;
    let course = begin(test, &counter, 400).await?;
    let before = fleet(test).await?;
    let old = version(test).await?;

    let mark = counter.mark(test, "b").await?;
    let begun = Instant::now();
    upgrade().await?;
    println!("upgraded in {:.1?}", begun.elapsed());
    let new = version(test).await?;
    ensure!(
        new.0 == format!("{}-next", old.0) && new.1 == "harmony:next",
        "{old:?}, then {new:?}"
    );
    course.goes_on("upgraded", course.until(0.0).await?).await?;
    ensure!(fleet(test).await? == before, "the fleet was {before:?}");
    counter.none_again(test, &mark).await?;

    // A worker that is made now has the agent of the new version, and the collector is of the old one.
    let pod = course.at_work(WORKER_ROLE).await?;
    delete_by_force(&pod).await?;
    let replaced = eventually("a worker of the new version", WITHIN, async || {
        let other = course.at_work(WORKER_ROLE).await?;
        ensure!(
            !before.contains_key(&other.name_any()),
            "{} is of the old fleet",
            other.name_any()
        );
        let inits = other.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let images: Vec<_> = inits.filter_map(|container| container.image.clone()).collect();
        ensure!(images == ["harmony:next"], "{images:?}");
        Ok(other)
    })
    .await?;
    let mixed = fleet(test).await?;
    println!("{} has the agent of the next version", replaced.name_any());

    let mark = counter.mark(test, "b").await?;
    install().await?;
    ensure!(version(test).await? == old, "not the old version");
    course.goes_on("downgraded", course.until(0.0).await?).await?;
    ensure!(fleet(test).await? == mixed, "the fleet was {mixed:?}");
    course.ends_well().await?;
    counter.none_again(test, &mark).await
}

#[tokio::test]
async fn an_operator_that_was_frozen_past_its_lease_is_fenced() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = LocalCluster::of_kubeconfig()?;
    ensure_installed().await?;
    scenario(async |test| {
        let counter = Counter::start(test).await?;
        let course = begin(test, &counter, 200).await?;
        let before = fleet(test).await?;
        let mark = counter.mark(test, "b").await?;
        let (pod, _) = Scrape::of_leader(&test.client).await?;
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .context("no node")?;
        let (led, before_thaw) = (leader().await?, restarts(&pod));
        let frozen = cluster.node(&node)?.freeze(&pod)?;
        let begun = Instant::now();
        eventually("another leader", WITHIN, async || {
            ensure!(leader().await? != led, "still {led}");
            Ok(())
        })
        .await?;
        println!("another operator leads {:.1?} after the leader froze", begun.elapsed());
        course
            .goes_on("leader frozen and replaced", course.until(0.0).await?)
            .await?;
        drop(frozen);
        // It sees that it was deposed, and begins anew: a process that had the batch cannot stand by for it.
        let pods = Api::<Pod>::namespaced(test.client.clone(), OPERATOR_NAMESPACE);
        let begun = Instant::now();
        eventually("the old leader to begin anew", WITHIN, async || {
            let now = pods.get(&pod.name_any()).await?;
            ensure!(restarts(&now) > before_thaw, "{:?}", now.status);
            Ok(())
        })
        .await?;
        println!("the old leader ended {:.1?} after it thawed", begun.elapsed());
        course.ends_well().await?;
        ensure!(
            fleet(test).await?.iter().all(|pod| before.get(pod.0) == Some(pod.1)),
            "the fleet was {before:?}"
        );
        counter.none_again(test, &mark).await
    })
    .await
}
