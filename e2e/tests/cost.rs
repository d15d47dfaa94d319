//! What a task costs the API server, as an Indexed Job and as a `HarmonyBatch`, with one container spec for both. A test
//! program of its own: the API server counts all requests together.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harmony_e2e::{ApiRequests, Scenario, Scrape, all_right, ensure_installed, scenario};
use tokio::time::sleep;

const WITHIN: Duration = Duration::from_mins(10);

const JOB_TASKS: u32 = 120;
const BATCH_TASKS: u32 = 100_000;

/// How long the API server is watched while nothing is asked of it.
const IDLE: Duration = Duration::from_secs(10);

/// The container in both: it does not know what runs it.
fn template(command: &str) -> String {
    format!(
        "
    spec:
      restartPolicy: Never
      securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: task
          image: shell:dev
          command: {command}
          env: [{{name: GREETING, value: task}}, {{name: TASK_NAME, value: tiny}}]
          securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    )
}

fn job(name: &str, tasks: u32, template: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  completionMode: Indexed\n  \
         completions: {tasks}\n  parallelism: 4\n  template:{template}"
    )
}

fn batch(name: &str, tasks: u32, template: &str) -> String {
    format!(
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{name: {name}}}\nspec:\n  \
         completionMode: Indexed\n  completions: {tasks}\n  parallelism: 4\n  executor: {{exec: {{}}}}\n  template:{template}"
    )
}

/// What a run took.
struct Cost {
    tasks: u32,
    elapsed: Duration,
    requests: f64,
}

impl Cost {
    /// Applies a text and waits for its end. All that the API server is asked for meanwhile counts, also what it is asked
    /// for anyway: that changes from one minute to the next, and taken off it could leave less than nothing.
    async fn of(test: &Scenario, object: &str, tasks: u32, text: &str) -> Result<Self> {
        let (before, began) = (ApiRequests::now().await?, Instant::now());
        test.apply(text).await?;
        let timeout = format!("--timeout={}s", WITHIN.as_secs());
        test.kubectl(&["wait", object, "--for=condition=Complete", &timeout])
            .await?;
        let elapsed = began.elapsed();
        let requests = ApiRequests::now().await?.since(&before, &[]);
        Ok(Self {
            tasks,
            elapsed,
            requests,
        })
    }

    fn requests_per_task(&self) -> f64 {
        self.requests / f64::from(self.tasks)
    }

    fn row(&self, name: &str) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let rate = f64::from(self.tasks) / seconds;
        let (tasks, requests, each) = (self.tasks, self.requests, self.requests_per_task());
        format!("| {name:<12} | {tasks:>7} | {seconds:>8.1} | {rate:>9.1} | {requests:>8.0} | {each:>17.5} |")
    }
}

#[tokio::test]
async fn an_indexed_jobs_image_runs_unchanged_and_costs_less() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        // The number of the task, which a shell has to read.
        let indexed = template("[sh, -c, 'echo \"$GREETING $JOB_COMPLETION_INDEX\"']");
        let tiny = template("[/bin/echo, task $(TASK_NAME)]");
        test.apply(&batch("unchanged", 20, &indexed)).await?;
        test.kubectl(&["wait", "hb/unchanged", "--for=condition=Complete", "--timeout=180s"])
            .await?;
        all_right(&test.results("unchanged").await?, 20, |number| {
            format!("task {number}\n")
        })?;

        let idle = ApiRequests::now().await?;
        sleep(IDLE).await; // the rate over this very time is what is measured
        let idle = ApiRequests::now().await?.since(&idle, &[]) / IDLE.as_secs_f64();

        let text = job("plain", JOB_TASKS, &tiny);
        let of_job = Cost::of(test, "job/plain", JOB_TASKS, &text).await?;
        // Its pods would be asked for while the other is measured.
        test.kubectl(&["delete", "job/plain", "--cascade=foreground", "--timeout=120s"])
            .await?;
        let (_, before) = Scrape::of_leader(&test.client).await?;
        let text = batch("warm", BATCH_TASKS, &tiny);
        let of_batch = Cost::of(test, "hb/warm", BATCH_TASKS, &text).await?;
        let (_, after) = Scrape::of_leader(&test.client).await?;
        let patches = |scrape: &Scrape| scrape.sum("harmony_status_patches_total", &[]);

        println!("| on 2 nodes   |   tasks |  seconds |   tasks/s | requests | requests per task |");
        println!("|--------------|--------:|---------:|----------:|---------:|------------------:|");
        println!("{}\n{}", of_job.row("Indexed Job"), of_batch.row("HarmonyBatch"));
        println!(
            "idle: {idle:.1} requests/s, included; status patches: {}",
            patches(&after) - patches(&before)
        );
        all_right(&test.results("warm").await?, u64::from(BATCH_TASKS), |_| {
            "task tiny\n".to_owned()
        })?;
        let (each, job) = (of_batch.requests_per_task(), of_job.requests_per_task());
        ensure!(
            each < job,
            "{each} requests for a task of a HarmonyBatch, {job} for one of a Job"
        );
        Ok(())
    })
    .await
}
