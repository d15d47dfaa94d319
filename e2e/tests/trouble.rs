//! Whatever keeps a batch from going on is told within half a minute by a condition and an event that name the cause, and
//! the batch completes once that is mended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::{PROGRESSING, reason};
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{SERVED, Scenario, condition, ensure_installed, eventually, scenario};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;

/// What is promised.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// For a batch of a few tasks that nothing is in the way of.
const COMPLETE_WITHIN: Duration = Duration::from_mins(2);

const TASKS: &str = "completions: 4";
const CAT: &str = "executor: {exec: {command: [cat]}}";

/// A batch of one worker: fields of its spec, and of the pod and the container of its template.
fn batch(name: &str, fields: &[&str], pod: &str, container: &str) -> String {
    let fields: Vec<_> = fields.iter().map(|field| format!("  {field}\n")).collect();
    let fields = fields.concat();
    format!(
        "---\napiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{name: {name}}}\nspec:\n{fields}  \
         template: {{spec: {{{pod} containers: [{{name: worker, {container}}}]}}}}\n"
    )
}

const CONTAINER: &str = "image: shell:dev, securityContext: {runAsUser: 1000}";

/// A condition and an event tell this reason, and a text that says what exactly is wrong.
async fn told(test: &Scenario, name: &str, reason: &str, cause: &str) -> Result<()> {
    let what = format!("batch {name} to tell {reason}");
    let begun = std::time::Instant::now();
    test.wait_for(&what, TOLD_WITHIN, name, |batch: &HarmonyBatch| {
        let progressing = condition(batch, PROGRESSING).context("no condition")?;
        let told = (progressing.status.as_str(), progressing.reason.as_str());
        let named = progressing.message.contains(cause);
        ensure!(told == ("False", reason) && named, "{progressing:?}");
        Ok(())
    })
    .await?;
    let events = test.api::<Event>();
    let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let left = TOLD_WITHIN.saturating_sub(begun.elapsed());
    eventually(&format!("an event with {reason} and {cause}"), left, async || {
        let list = events.list(&about).await?.items;
        let tells = |event: &Event| {
            event.reason.as_deref() == Some(reason) && event.message.as_deref().is_some_and(|it| it.contains(cause))
        };
        ensure!(list.iter().any(tells), "{list:?}");
        Ok(())
    })
    .await?;
    println!("{name}: {reason} was told after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn completes(test: &Scenario, name: &str) -> Result<()> {
    let begun = std::time::Instant::now();
    test.wait_complete(name, COMPLETE_WITHIN).await?;
    println!(
        "{name}: complete {:.1} s after it was mended",
        begun.elapsed().as_secs_f64()
    );
    ensure!(test.results(name).await?.len() == 4, "not every task has a result");
    Ok(())
}

/// One batch in its own namespace: what is wrong is told, and when it is mended by a new spec the batch completes.
async fn mended_by_its_spec(wrong: &str, reason: &str, cause: &str, right: &str) -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(wrong).await?;
        told(test, "b", reason, cause).await?;
        test.apply(right).await?;
        completes(test, "b").await
    })
    .await
}

fn right() -> String {
    batch("b", &[TASKS, CAT], "", CONTAINER)
}

#[tokio::test]
async fn a_wrong_image_is_told_and_can_be_mended() -> Result<()> {
    let wrong = batch("b", &[TASKS, CAT], "", &CONTAINER.replace("shell:dev", "nowhere:1"));
    mended_by_its_spec(&wrong, reason::IMAGE_PULL_FAILED, "nowhere:1", &right()).await
}

#[tokio::test]
async fn an_init_container_that_fails_is_told_and_can_be_mended() -> Result<()> {
    let pod = format!("initContainers: [{{name: prepare, command: [sh, -c, exit 3], {CONTAINER}}}],");
    let wrong = batch("b", &[TASKS, CAT], &pod, CONTAINER);
    // kubectl would merge the lists by name.
    let right = batch("b", &[TASKS, CAT], &pod.replace("exit 3", "exit 0"), CONTAINER);
    mended_by_its_spec(
        &wrong,
        reason::INIT_FAILED,
        "init container prepare, exit code 3",
        &right,
    )
    .await
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_and_can_be_mended() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let exec = |program: &str| {
            batch(
                "exec",
                &[TASKS, &format!("executor: {{exec: {{command: [{program}]}}}}")],
                "",
                CONTAINER,
            )
        };
        let process = |program: &str| {
            batch(
                "process",
                &[TASKS, &format!("executor: {{process: {{command: [{program}]}}}}")],
                "",
                CONTAINER,
            )
        };
        let own = |program: &str| batch("own", &[TASKS], "", &format!("command: [{program}], {CONTAINER}"));
        let all = |program: &str| exec(program) + &process(program) + &own(program);
        test.apply(&all("/no/such/program")).await?;
        for name in ["exec", "process", "own"] {
            told(test, name, reason::EXECUTOR_FAILED, "/no/such/program").await?;
        }
        // It is no storm: the ventilator waits for better workers instead of breaking down.
        for name in ["exec", "process", "own"] {
            let epoch = test
                .api::<HarmonyBatch>()
                .get(name)
                .await?
                .status
                .and_then(|status| status.epoch);
            ensure!(
                epoch == Some(1),
                "the batch {name} was claimed again and again: epoch {epoch:?}"
            );
        }
        test.apply(&all("cat")).await?;
        for name in ["exec", "process", "own"] {
            completes(test, name).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_template_that_pod_security_refuses_is_told_and_can_be_mended() -> Result<()> {
    let container = "image: shell:dev, securityContext: {runAsUser: 1000, privileged: true}";
    let wrong = batch("b", &[TASKS, CAT], "", container);
    let right = batch("b", &[TASKS, CAT], "", &container.replace("true", "false"));
    mended_by_its_spec(&wrong, reason::PODS_REFUSED, "privileged", &right).await
}

#[tokio::test]
async fn a_config_map_that_is_not_there_is_told_and_can_be_mended() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let tasks = batch(
            "tasks",
            &["tasks: {configMapRef: {name: absent, key: lines}}", CAT],
            "",
            CONTAINER,
        );
        let variable =
            format!("env: [{{name: A, valueFrom: {{configMapKeyRef: {{name: absent, key: lines}}}}}}], {CONTAINER}");
        let volume = format!("volumeMounts: [{{name: data, mountPath: /data}}], {CONTAINER}");
        let pod = "volumes: [{name: data, configMap: {name: absent}}],";
        let all =
            tasks + &batch("variable", &[TASKS, CAT], "", &variable) + &batch("volume", &[TASKS, CAT], pod, &volume);
        test.apply(&all).await?;
        told(
            test,
            "tasks",
            reason::TASKS_SOURCE_UNAVAILABLE,
            "no ConfigMap \"absent\"",
        )
        .await?;
        for name in ["variable", "volume"] {
            told(test, name, reason::POD_NOT_CONFIGURED, "absent").await?;
        }
        test.kubectl(&["create", "configmap", "absent", "--from-literal=lines=a\nb\nc\nd"])
            .await?;
        for name in ["tasks", "variable", "volume"] {
            completes(test, name).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_quota_of_no_pods_is_told_and_can_be_mended() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let quota = "---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {name: none}\nspec: {hard: {pods: \"0\"}}";
        test.apply(quota).await?;
        test.apply(&right()).await?;
        told(test, "b", reason::PODS_REFUSED, "exceeded quota: none").await?;
        test.kubectl(&["delete", "resourcequota", "none"]).await?;
        completes(test, "b").await
    })
    .await
}

/// The source is read once per ventilator, so the batch is suspended before it changes, and resumed after.
#[tokio::test]
async fn a_source_that_changed_is_told_and_can_be_mended() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let url = test.serve("printf 'a\\nb\\nc\\nd\\n'").await?;
        let url = format!("tasks: {{lines: {{url: '{url}'}}}}");
        // No worker, so that no task runs before the source changes.
        test.apply(&batch("b", &[&url, CAT, "parallelism: 0"], "", CONTAINER))
            .await?;
        test.wait_for("the tasks to be read", TOLD_WITHIN, "b", |batch: &HarmonyBatch| {
            let total = batch
                .status
                .as_ref()
                .and_then(|status| status.tasks)
                .map(|tasks| tasks.total);
            ensure!(total == Some(4), "{:?}", batch.status);
            Ok(())
        })
        .await?;
        suspend(test, true).await?;
        test.exec("web", &["sh", "-c", &format!("printf 'a\\nb\\nc\\nx\\n' > {SERVED}")])
            .await?;
        test.kubectl(&["scale", "hb/b", "--replicas=1"]).await?;
        suspend(test, false).await?;
        told(test, "b", reason::TASKS_SOURCE_CHANGED, "bring the old ones back").await?;
        // Suspending a batch that waits must not make it wait for ever.
        suspend(test, true).await?;
        suspend(test, false).await?;
        told(test, "b", reason::TASKS_SOURCE_CHANGED, "bring the old ones back").await?;
        test.exec("web", &["sh", "-c", &format!("printf 'a\\nb\\nc\\nd\\n' > {SERVED}")])
            .await?;
        completes(test, "b").await
    })
    .await
}

/// Says so, and waits until the operator has seen it.
async fn suspend(test: &Scenario, suspend: bool) -> Result<()> {
    let patch = format!("{{\"spec\":{{\"suspend\":{suspend}}}}}");
    test.kubectl(&["patch", "hb/b", "--type=merge", "--patch", &patch])
        .await?;
    let status = format!("--for=condition=Suspended={}", if suspend { "True" } else { "False" });
    test.kubectl(&["wait", "hb/b", &status, "--timeout=30s"])
        .await
        .map(drop)
}
