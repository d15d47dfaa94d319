//! `harmony` on a cluster, as people and scripts call it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::{COMPLETE, RESULTS_AVAILABLE};
use harmony_api::conventions::{COLLECTOR_ROLE, WORKER_ROLE};
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{Scenario, condition, ensure_installed, eventually, program, scenario};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// For a small batch from its creation to its end, on a busy machine.
const WITHIN: Duration = Duration::from_mins(3);

/// A batch of three tasks that run a shell script. `fields` are further lines of its spec.
fn three(name: &str, script: &str, fields: &str) -> String {
    format!(
        "apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {{name: {name}}}
spec:
  completions: 3
  backoffLimitPerIndex: 0
  executor: {{exec: {{command: [sh, -c, '{script}']}}}}
  template:
    spec:
      volumes: [{{name: flag, emptyDir: {{}}}}]
      containers: [{{name: worker, image: numeric:dev, volumeMounts: [{{name: flag, mountPath: /flag}}]}}]
{fields}"
    )
}

/// A folder with a file in it.
fn file(text: &str) -> Result<(TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("batch.yaml");
    fs::write(&path, text)?;
    let path = path.to_str().context("the folder's path is not UTF-8")?.to_owned();
    Ok((folder, path))
}

fn expect(output: &Output, code: i32, said: &[&str]) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "{} instead of {code}: {stderr}",
        output.status
    );
    for said in said {
        ensure!(stderr.contains(said), "{said:?} is missing in: {stderr}");
    }
    Ok(())
}

#[tokio::test]
async fn submit_follows_and_ends_as_the_batch_ends() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let (_good, good) = file(&three("good", "cat", ""))?;
        let (_bad, bad) = file(&three("bad", "[ $HARMONY_TASK != 1 ]", ""))?;
        let early = "  successPolicy: {rules: [{succeededIndexes: '0'}]}\n";
        let (_early, early) = file(&three("early", "[ $HARMONY_TASK = 0 ] || sleep 300", early))?;
        let (submit, fail, end) = (["submit", &good], ["submit", &bad], ["submit", &early]);
        let (good, bad, early) = tokio::try_join!(test.harmony(&submit), test.harmony(&fail), test.harmony(&end))?;
        let results = format!(
            "good: 3 succeeded, 0 failed: harmony results good -n {}",
            test.namespace
        );
        expect(&good, 0, &[&results])?;
        expect(&bad, 1, &["bad: 2 succeeded, 1 failed: harmony failed bad"])?;
        expect(
            &early,
            0,
            &["early: 1 succeeded, 0 failed, ended early (SuccessPolicy), 2 not settled"],
        )?;

        let failed = test.harmony_prints(&["failed", "bad"]).await?;
        let failed: Value = serde_json::from_str(failed.trim()).context("one line")?;
        assert_eq!(
            (&failed["number"], &failed["reason"]),
            (&Value::from(1), &Value::from("ExitCode"))
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_before_the_cluster_hears_of_it() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let (_wrong, wrong) = file(&three("wrong", "cat", "  completion: 4\n"))?;
        expect(
            &test.harmony(&["submit", &wrong]).await?,
            2,
            &["batch.yaml:12:", "completion"],
        )?;
        let (_local, local) = file(&three("local", "cat", "  tasks: {lines: {path: lines.txt}}\n"))?;
        expect(&test.harmony(&["submit", &local]).await?, 2, &["path", "url"])?;
        // What only the operator can see.
        let mount = three("mount", "cat", "").replace("/flag", "/harmony/flag");
        let (_mount, mount) = file(&mount)?;
        let refused = test.harmony(&["submit", &mount]).await?;
        expect(
            &refused,
            2,
            &[
                "the operator refuses it: spec.template",
                "/harmony is Harmony's own; choose another: harmony status mount",
            ],
        )
    })
    .await
}

#[tokio::test]
async fn a_batch_is_looked_at_while_it_runs_and_after() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let script = "cat; [ $HARMONY_TASK != 2 ] || until [ -e /flag/go ]; do sleep 0.1; done";
        let (folder, batch) = file(&three("held", script, ""))?;
        let detached = test.harmony(&["submit", &batch, "--detach"]).await?;
        expect(&detached, 0, &["held is applied; harmony status held"])?;
        eventually("two results", WITHIN, async || {
            let numbers: Vec<_> = test
                .results("held")
                .await?
                .into_iter()
                .map(|line| line.number)
                .collect();
            ensure!(numbers == [0, 1], "{numbers:?}");
            Ok(())
        })
        .await?;
        // The status is written once in five seconds.
        eventually("the status to tell it", WITHIN, async || {
            let screen = test.harmony_prints(&["status", "held"]).await?;
            for said in ["held in namespace", "Running", "2 of 3 (66 %)"] {
                ensure!(screen.contains(said), "{said:?} is missing in:\n{screen}");
            }
            Ok(())
        })
        .await?;
        let object: Value = serde_json::from_str(&test.harmony_prints(&["status", "held", "-o", "json"]).await?)?;
        assert_eq!(object["status"]["tasks"]["succeeded"], 2);
        let table = test.harmony_prints(&["status"]).await?;
        ensure!(table.contains("\nheld ") && table.contains("2/3"), "{table}");

        let workers = test.pods_of("held", WORKER_ROLE).await?;
        let worker = workers.first().context("no worker")?.name_any();
        test.exec(&worker, &["touch", "/flag/go"]).await?;
        test.wait_for_condition("held", COMPLETE, WITHIN).await?;
        assert_eq!(test.results("held").await?.len(), 3);
        assert_eq!(test.harmony_prints(&["failed", "held"]).await?, "");
        let joblog = test.harmony_prints(&["joblog", "held"]).await?;
        assert_eq!(joblog.lines().count(), 4, "{joblog}");
        ensure!(
            joblog.starts_with("number\tattempt\tworker\t") && joblog.contains(&worker),
            "{joblog}"
        );
        as_a_plugin(test, &folder).await
    })
    .await
}

/// kubectl finds its plugins in the PATH.
async fn as_a_plugin(test: &Scenario, folder: &TempDir) -> Result<()> {
    let bin = folder.path().join("bin");
    fs::create_dir(&bin)?;
    symlink(program()?.canonicalize()?, bin.join("kubectl-harmony"))?;
    let path = std::env::var("PATH")?;
    let mut kubectl = Command::new("kubectl");
    kubectl.env("PATH", format!("{}:{path}", bin.display()));
    let output = kubectl
        .args(["harmony", "results", "held", "-n", &test.namespace])
        .output()
        .await?;
    expect(&output, 0, &[])?;
    assert_eq!(String::from_utf8(output.stdout)?.lines().count(), 3);
    Ok(())
}

/// A kubeconfig of a service account that may do nothing.
async fn stranger(test: &Scenario, folder: &TempDir) -> Result<PathBuf> {
    let token = test.kubectl(&["create", "token", "default"]).await?;
    let config = test
        .kubectl(&["config", "view", "--raw", "--minify", "--flatten", "--output=json"])
        .await?;
    let mut config: Value = serde_json::from_str(&config)?;
    let user = config.pointer_mut("/users/0/user").context("no user")?;
    *user = serde_json::json!({"token": token.trim()});
    let path = folder.path().join("stranger");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

#[tokio::test]
async fn what_does_not_work_is_explained() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        for command in ["results", "failed", "joblog", "status"] {
            let output = test.harmony(&[command, "nobody"]).await?;
            expect(&output, 2, &["there is no batch nobody in namespace", "./nobody"])?;
        }
        let (folder, batch) = file(&three("lost", "cat", ""))?;
        let stranger = stranger(test, &folder).await?;
        let stranger = stranger.to_str().context("not UTF-8")?;
        for command in [["status", "lost"], ["submit", &batch]] {
            let output = test
                .harmony(&[&command, ["--kubeconfig", stranger].as_slice()].concat())
                .await?;
            expect(
                &output,
                3,
                &["harmonybatches.harmony.dev", "forbidden", "ask for that right"],
            )?;
        }
        expect(&test.harmony(&["submit", &batch, "--quiet"]).await?, 0, &[])?;

        // Without a claim the results go with their pod.
        let pods = test.pods_of("lost", COLLECTOR_ROLE).await?;
        let collector = pods.first().context("no collector")?.name_any();
        test.api::<Pod>()
            .delete(&collector, &DeleteParams::default().grace_period(0))
            .await?;
        test.wait_for("the loss to be told", WITHIN, "lost", |batch: &HarmonyBatch| {
            let told = condition(batch, RESULTS_AVAILABLE).context("no condition")?;
            ensure!(told.status == "False", "{told:?}");
            ensure!(
                condition(batch, COMPLETE).is_some_and(|complete| complete.status == "True"),
                "not complete"
            );
            Ok(())
        })
        .await?;
        expect(&test.harmony(&["results", "lost"]).await?, 3, &["ResultsLost"])
    })
    .await
}
