//! Many batches, and many workers, of one operator. A test program of its own: it measures the operator's process.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use harmony_e2e::{Scenario, Scrape, all_right, batch, ensure_installed, eventually, scenario};
use kube::Client;

const WITHIN: Duration = Duration::from_mins(15);

/// An executor that answers each line as it comes.
const CAT: &str = "executor: {process: {command: [cat]}}";

const MIB: f64 = 1024.0 * 1024.0;

/// How much more memory the operator may have after many batches than after the first few: far less than what their objects,
/// pods and tasks take together.
const MAX_GROWTH: f64 = 16.0 * MIB;

/// What the operator's process takes.
#[derive(Clone, Copy, Debug)]
struct Usage {
    memory: f64,
    cpu_seconds: f64,
    files: f64,
}

impl Usage {
    async fn of_leader(client: &Client) -> Result<Self> {
        let (_, scrape) = Scrape::of_leader(client).await?;
        Ok(Self {
            memory: scrape.sum("process_resident_memory_bytes", &[]),
            cpu_seconds: scrape.sum("process_cpu_seconds_total", &[]),
            files: scrape.sum("process_open_fds", &[]),
        })
    }

    fn print(&self, when: &str) {
        let (memory, cpu, files) = (self.memory / MIB, self.cpu_seconds, self.files);
        println!("operator {when}: {memory:.1} MiB, {cpu} s of CPU since its start, {files} open files");
    }
}

async fn complete(test: &Scenario, name: &str, fields: &str) -> Result<Duration> {
    let began = Instant::now();
    test.apply(&batch(name, fields)).await?;
    test.wait_complete(name, WITHIN).await?;
    Ok(began.elapsed())
}

#[tokio::test]
async fn ten_batches_at_once_in_three_namespaces() -> Result<()> {
    const TASKS: u64 = 10_000;
    ensure_installed().await?;
    scenario(async |first| {
        scenario(async |second| {
            scenario(async |third| {
                let places = [first, second, third];
                Usage::of_leader(&first.client).await?.print("before ten batches");
                let fields = format!("completions: {TASKS}\nparallelism: 1\n{CAT}");
                let batches: Vec<_> = (0..10)
                    .map(|index| (places[index % 3], format!("batch-{index}")))
                    .collect();
                let all = batches.iter().map(|(place, name)| complete(place, name, &fields));
                let took = try_join_all(all).await?;
                println!("ten batches of {TASKS} tasks at once took {took:.1?}");
                Usage::of_leader(&first.client)
                    .await?
                    .print("after ten batches at once");
                for (place, name) in &batches {
                    all_right(&place.results(name).await?, TASKS, |number| number.to_string())?;
                }
                Ok(())
            })
            .await
        })
        .await
    })
    .await
}

/// Runs batches one after the other, each deleted when it is complete, and sees that the operator keeps nothing of them.
async fn in_a_row(count: u32) -> Result<()> {
    /// After these, what is made once is there.
    const WARM: u32 = 3;
    ensure_installed().await?;
    scenario(async |test| {
        let fields = format!("completions: 1000\nparallelism: 1\n{CAT}");
        let run = async |index: u32| -> Result<()> {
            let name = format!("batch-{index}");
            complete(test, &name, &fields).await?;
            all_right(&test.results(&name).await?, 1000, |number| number.to_string())?;
            test.kubectl(&["delete", "hb", &name, "--timeout=120s"]).await.map(drop)
        };
        for index in 0..WARM {
            run(index).await?;
        }
        let warm = Usage::of_leader(&test.client).await?;
        for index in WARM..WARM + count {
            run(index).await?;
        }
        let after = Usage::of_leader(&test.client).await?;
        warm.print("after the first batches");
        after.print(&format!("{count} batches later"));
        ensure!(after.memory - warm.memory < MAX_GROWTH, "{warm:?} became {after:?}");
        // Each batch has links of its own, and all of them are closed.
        ensure!(after.files < warm.files + 10.0, "{warm:?} became {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn five_batches_in_a_row_leave_nothing() -> Result<()> {
    in_a_row(5).await
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn fifty_batches_in_a_row_leave_nothing() -> Result<()> {
    in_a_row(50).await
}

/// Waits until so many workers have answered at least one task each, which only a batch with time enough shows.
async fn all_answer(workers: u32) -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        // Far more than is needed: the batch is deleted once all have answered.
        let fields = format!(
            "completions: 1000000\nparallelism: {workers}\nexecutor: {{exec: {{command: [sh, -c, 'sleep 5; echo $HARMONY_WORKER_NAME']}}}}"
        );
        let began = Instant::now();
        test.apply(&batch("wide", &fields)).await?;
        let labels = [("namespace", test.namespace.as_str()), ("batch", "wide"), ("state", "busy")];
        eventually("all workers to be busy at once", WITHIN, async || {
            let (_, scrape) = Scrape::of_leader(&test.client).await?;
            let busy = scrape.sum("harmony_workers", &labels);
            ensure!(busy >= f64::from(workers), "{busy} are busy");
            Ok(())
        })
        .await?;
        println!("{workers} workers were busy at once {:.1?} after apply", began.elapsed());
        let answered = eventually("each worker to have answered", WITHIN, async || {
            let log = test.harmony_prints(&["joblog", "wide"]).await?;
            let names: std::collections::BTreeSet<_> = log.lines().skip(1).filter_map(|line| line.split('\t').nth(2)).collect();
            ensure!(names.len() as u64 >= u64::from(workers), "{} have answered", names.len());
            Ok(names.len())
        })
        .await?;
        println!("{answered} workers have answered {:.1?} after apply", began.elapsed());
        Usage::of_leader(&test.client).await?.print(&format!("with {workers} workers"));
        test.kubectl(&["delete", "hb", "wide", "--timeout=600s"]).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn twenty_workers_all_answer() -> Result<()> {
    all_answer(20).await
}

#[tokio::test]
#[ignore = "needs two nodes that take 110 pods each, and minutes"]
async fn two_hundred_workers_all_answer() -> Result<()> {
    all_answer(200).await
}
