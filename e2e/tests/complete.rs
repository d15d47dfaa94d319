//! Batches from `kubectl apply` to their end: results, what status says, and what ends a batch early.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::{FutureExt as _, StreamExt as _, pin_mut};
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{Recorded, Scenario, all_right, batch, condition, ensure_installed, program, scenario};
use kube::ResourceExt as _;
use kube::api::{WatchEvent, WatchParams};
use tokio::process::Command;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_mins(3);

/// What the API server may hold of a batch.
const MAX_OBJECT: usize = 64 << 10;

/// The least time between two patches that tell nothing new but counts.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// A filter that answers each line as it comes.
const DOUBLE: &str = "executor: {process: {command: [sh, -c, 'while read n; do echo $((n * 2)); done']}}";

#[tokio::test]
async fn a_hundred_thousand_tasks_with_four_workers() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let began = Instant::now();
        test.apply(&batch(
            "doubles",
            &format!("completions: 100000\nparallelism: 4\n{DOUBLE}"),
        ))
        .await?;
        let (patches, done) = tokio::join!(watch(test, "doubles"), test.wait_complete("doubles", WITHIN));
        let (patches, done, elapsed) = (patches?, done?, began.elapsed());
        println!("100,000 tasks, 4 workers: {elapsed:.1?} from apply to Complete, {patches:?}");

        let size = serde_json::to_vec(&done)?.len();
        println!("the object has {size} bytes");
        ensure!(size < MAX_OBJECT, "the object has {size} bytes");
        let allowed = 1 + elapsed.as_secs() / STATUS_EVERY.as_secs();
        ensure!(patches.of_counts <= allowed, "{patches:?} in {elapsed:?}");

        let status = done.status.context("no status")?;
        let tasks = status.tasks.context("no counts")?;
        ensure!(
            (tasks.total, tasks.succeeded, tasks.pending) == (100_000, 100_000, 0),
            "{tasks:?}"
        );
        ensure!(
            status.completions.as_deref() == Some("100000/100000"),
            "{:?}",
            status.completions
        );
        ensure!(test.failed("doubles").await?.is_empty());
        all_right(&test.results("doubles").await?, 100_000, |number| {
            (number * 2).to_string()
        })
    })
    .await
}

/// Changes of a batch's status: those of conditions or of the epoch, and those of nothing but counts.
#[derive(Debug, Default)]
struct Patches {
    of_conditions: u64,
    of_counts: u64,
}

/// Counts the patches of a batch's status, each of which is an event, until it is complete.
async fn watch(test: &Scenario, name: &str) -> Result<Patches> {
    let first = test.api::<HarmonyBatch>().get(name).await?;
    let version = first.resource_version().context("no resource version")?;
    let parameters = WatchParams::default()
        .disable_bookmarks()
        .fields(&format!("metadata.name={name}"));
    let events = test.api::<HarmonyBatch>().watch(&parameters, &version).await?;
    pin_mut!(events);
    let mut patches = Patches::default();
    let mut before = told(&first);
    while let Some(event) = timeout(WITHIN, events.next()).await? {
        let seen = match event? {
            WatchEvent::Modified(seen) => seen,
            other => anyhow::bail!("not a change: {other:?}"),
        };
        let now = told(&seen);
        if now == before {
            patches.of_counts += 1;
        } else {
            patches.of_conditions += 1;
        }
        before = now;
        if condition(&seen, "Complete").is_some() {
            return Ok(patches);
        }
    }
    anyhow::bail!("the watch ended before the batch, at {patches:?}")
}

/// What is a reason to write a status at once.
fn told(batch: &HarmonyBatch) -> (Option<u64>, BTreeSet<[String; 3]>) {
    let status = batch.status.clone().unwrap_or_default();
    let conditions = status.conditions.into_iter();
    let told = conditions.map(|condition| [condition.type_, condition.status, condition.reason]);
    (status.epoch, told.collect())
}

#[tokio::test]
async fn a_million_lines_of_a_web_server_through_a_filter() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let url = test.serve("seq 1000000 | sed 's/^/line /'").await?;
        let fields =
            format!("parallelism: 2\ntasks: {{lines: {{url: '{url}'}}}}\nexecutor: {{process: {{command: [cat]}}}}");
        let began = Instant::now();
        test.apply(&batch("lines", &fields)).await?;
        let done = test.wait_complete("lines", WITHIN).await?;
        let elapsed = began.elapsed();
        println!("1,000,000 lines, 2 workers: {elapsed:.1?} from apply to Complete");
        let size = serde_json::to_vec(&done)?.len();
        ensure!(size < MAX_OBJECT, "the object has {size} bytes");
        let began = Instant::now();
        let results = test.results("lines").await?;
        println!("1,000,000 results were read in {:.1?}", began.elapsed());
        all_right(&results, 1_000_000, |number| format!("line {}", number + 1))
    })
    .await
}

const ITEMS: &str = "parallelism: 2
tasks: {items: [one, 'two and three', '']}
executor: {exec: {command: [sh, -c, 'echo $HARMONY_TASK; cat']}}";

const CONFIG_MAP: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {list: \"alpha\\nbeta\\n\\ngamma\\n\"}
";

const CONFIG_MAP_TASKS: &str = "tasks: {configMapRef: {name: words, key: list}}
executor: {exec: {command: [sh, -c, 'echo \"<$(cat)>\"']}}";

#[tokio::test]
async fn items_and_config_maps_and_the_same_text_on_one_machine() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let items = batch("items", ITEMS);
        test.apply(&[items.as_str(), CONFIG_MAP, &batch("words", CONFIG_MAP_TASKS)].concat())
            .await?;
        for name in ["items", "words"] {
            test.wait_complete(name, WITHIN).await?;
        }
        let results = test.results("items").await?;
        let right = ["0\none", "1\ntwo and three", "2\n"];
        all_right(&results, 3, |number| right[usize::try_from(number).unwrap()].to_owned())?;
        let right = ["<alpha>\n", "<beta>\n", "<>\n", "<gamma>\n"];
        all_right(&test.results("words").await?, 4, |number| {
            right[usize::try_from(number).unwrap()].to_owned()
        })?;

        let folder = std::env::temp_dir().join(&test.namespace);
        std::fs::create_dir(&folder)?;
        let (file, output) = (folder.join("items.yaml"), folder.join("items.harmony"));
        std::fs::write(&file, &items)?;
        let [file, output] = [&file, &output].map(|path| path.to_str().expect("a folder in UTF-8"));
        run(file, output).await?;
        let local = std::fs::read_to_string(folder.join("items.harmony/results.ndjson"))?;
        std::fs::remove_dir_all(&folder)?;
        let local: Vec<Recorded> = local.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(
            local == results,
            "on one machine: {local:?}; on the cluster: {results:?}"
        );
        Ok(())
    })
    .await
}

/// Runs a batch on this machine.
async fn run(file: &str, output: &str) -> Result<()> {
    let run = Command::new(program()?)
        .args(["run", file, "--output", output])
        .output()
        .await?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Ok(())
}

/// Batches that end otherwise than by their last task. The long ones would take hours.
const EARLY: [(&str, &str); 5] = [
    (
        "policy",
        "completions: 50000
        slotsPerWorker: 2
        successPolicy: {rules: [{succeededCount: 3}]}
        executor: {exec: {command: [sh, -c, 'sleep 0.5; echo $HARMONY_TASK']}}",
    ),
    (
        "failing",
        "completions: 6
        backoffLimitPerIndex: 0
        executor: {exec: {command: [sh, -c, 'case $HARMONY_TASK in 2|4) echo no such luck >&2; exit 7;; esac']}}",
    ),
    (
        "hopeless",
        "completions: 50000
        backoffLimitPerIndex: 0
        maxFailedIndexes: 2
        executor: {exec: {command: [sh, -c, 'sleep 0.1; exit 1']}}",
    ),
    (
        "slow",
        "completions: 2
        activeDeadlineSeconds: 5
        executor: {exec: {command: [sleep, '36000']}}",
    ),
    (
        "stuck",
        "completions: 2
        progressDeadlineSeconds: 2
        ttlSecondsAfterFinished: 0
        executor: {exec: {command: [sleep, '36000']}}",
    ),
];

#[tokio::test]
async fn batches_that_end_early_say_why() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let texts: String = EARLY.iter().map(|(name, fields)| batch(name, fields)).collect();
        test.apply(&texts).await?;
        let ends = [
            policy(test).boxed_local(),
            failing(test).boxed_local(),
            hopeless(test).boxed_local(),
            slow(test).boxed_local(),
            stuck(test).boxed_local(),
        ];
        try_join_all(ends).await.map(drop)
    })
    .await
}

async fn policy(test: &Scenario) -> Result<()> {
    let (batch, end) = test.wait_end("policy", WITHIN).await?;
    ensure!(
        (end.type_.as_str(), end.reason.as_str()) == ("Complete", "SuccessPolicy"),
        "{end:?}"
    );
    let tasks = batch.status.and_then(|status| status.tasks).context("no counts")?;
    let left = 50_000 - tasks.succeeded;
    ensure!(
        tasks.succeeded >= 3 && tasks.pending + tasks.in_flight == left,
        "{tasks:?}"
    );
    ensure!(
        end.message == format!("{} succeeded, 0 failed, {left} not settled", tasks.succeeded),
        "{end:?}"
    );
    let results = test.results("policy").await?;
    ensure!(
        results.len() as u64 == tasks.succeeded,
        "{} results, {tasks:?}",
        results.len()
    );
    for line in results {
        ensure!(line.output == format!("{}\n", line.number), "{line:?}");
    }
    Ok(())
}

async fn failing(test: &Scenario) -> Result<()> {
    let (batch, end) = test.wait_end("failing", WITHIN).await?;
    ensure!(
        (end.type_.as_str(), end.reason.as_str()) == ("Failed", "FailedIndexes"),
        "{end:?}"
    );
    let status = batch.status.context("no status")?;
    ensure!(
        status.failed_indexes.as_deref() == Some("2,4"),
        "{:?}",
        status.failed_indexes
    );
    ensure!(status.completion_time.is_none(), "{:?}", status.completion_time);
    let numbers: BTreeSet<u64> = status.failures.iter().map(|failure| failure.number).collect();
    ensure!(numbers == [2, 4].into(), "{:?}", status.failures);
    for failure in &status.failures {
        ensure!(failure.exit_code == Some(7) && failure.attempt == 1, "{failure:?}");
        ensure!(failure.log_tail.as_deref() == Some("no such luck"), "{failure:?}");
    }
    let failed = test.failed("failing").await?;
    ensure!(failed.iter().map(|line| line.number).eq([2, 4]), "{failed:?}");
    for line in failed {
        ensure!((line.attempts, line.exit_code) == (1, Some(7)), "{line:?}");
        ensure!(line.worker.starts_with("hb-failing-"), "{line:?}");
        ensure!(line.reason == "ExitCode" && line.log == "no such luck\n", "{line:?}");
    }
    let succeeded = test.results("failing").await?;
    ensure!(
        succeeded.iter().map(|line| line.number).eq([0, 1, 3, 5]),
        "{succeeded:?}"
    );
    Ok(())
}

async fn hopeless(test: &Scenario) -> Result<()> {
    let (batch, end) = test.wait_end("hopeless", WITHIN).await?;
    ensure!(
        (end.type_.as_str(), end.reason.as_str()) == ("Failed", "MaxFailedIndexesExceeded"),
        "{end:?}"
    );
    let tasks = batch.status.and_then(|status| status.tasks).context("no counts")?;
    ensure!(tasks.failed > 2 && tasks.pending > 0, "{tasks:?}");
    Ok(())
}

async fn slow(test: &Scenario) -> Result<()> {
    let (batch, end) = test.wait_end("slow", WITHIN).await?;
    ensure!(
        (end.type_.as_str(), end.reason.as_str()) == ("Failed", "DeadlineExceeded"),
        "{end:?}"
    );
    let started = batch.status.and_then(|status| status.start_time).context("no start")?;
    let after = end.last_transition_time.0.duration_since(started.0);
    println!("a batch with a deadline of 5 s ended {after:#} after its start");
    ensure!(after.as_secs() >= 5, "{after:#}");
    Ok(())
}

/// No end: it says that it is stuck, and goes on. When it is done, it goes at once.
async fn stuck(test: &Scenario) -> Result<()> {
    test.wait_for("batch stuck to say so", WITHIN, "stuck", |batch: &HarmonyBatch| {
        let told = condition(batch, "Progressing").context("not told")?;
        let is_stuck = told.status == "False" && told.reason == "ProgressDeadlineExceeded";
        ensure!(is_stuck && condition(batch, "Failed").is_none(), "{told:?}");
        Ok(())
    })
    .await?;
    // Whoever wants it over sets a deadline that is past.
    let over = "{\"spec\": {\"activeDeadlineSeconds\": 1}}";
    test.kubectl(&["patch", "hb/stuck", "--type=merge", "--patch", over])
        .await?;
    test.kubectl(&["wait", "hb/stuck", "--for=delete", "--timeout=180s"])
        .await?;
    Ok(())
}
