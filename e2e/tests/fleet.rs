//! The agent in the pods of users: any image, any executor, any rules of the namespace, and an end in order.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::{COMPLETE, PROGRESSING, reason};
use harmony_api::conventions::{COLLECTOR_ROLE, WORKER_ROLE};
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{OPERATOR_NAMESPACE, Scenario, condition, ensure_installed, eventually, fetch_forwarded, scenario};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};

/// For a small batch from its creation to its end, many of them at once on a busy machine.
const WITHIN: Duration = Duration::from_mins(3);
/// For trouble to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// A batch of five tasks, the numbers 0 to 4. `executor` and `pod` are YAML in flow style.
fn five(name: &str, executor: &str, pod: &str) -> String {
    format!(
        "---
apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {{name: {name}}}
spec:
  completions: 5
  executor: {executor}
  template: {{spec: {pod}}}
"
    )
}

/// Waits for the end of a batch of five, and compares its results.
async fn expect(test: &Scenario, name: &str, answer: impl Fn(u64) -> String) -> Result<()> {
    test.wait_for_condition(name, COMPLETE, WITHIN).await?;
    let results = test.results(name).await?;
    let told: Vec<_> = results
        .iter()
        .map(|line| (line.number, line.attempt, line.output.clone()))
        .collect();
    let expected: Vec<_> = (0..5).map(|number| (number, 1, answer(number))).collect();
    ensure!(told == expected, "{name}: {told:?} instead of {expected:?}");
    Ok(())
}

/// Prints the number and who runs it.
const WHO: &str = r#"{exec: {command: [sh, -c, 'echo "$(cat) $(id -u)"']}}"#;

#[tokio::test]
async fn any_image_becomes_a_worker() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let images = [
            // What most images out there are: root, unless the pod says otherwise.
            ("root", WHO, "{containers: [{name: worker, image: shell:dev, securityContext: {runAsUser: 1000}}]}"),
            // The user is known to the image alone, so the pod tells its number.
            ("named", WHO, "{securityContext: {runAsUser: 1001}, containers: [{name: worker, image: named:dev}]}"),
            ("numeric", WHO, "{containers: [{name: worker, image: numeric:dev}]}"),
            (
                "readonly",
                "{exec: {command: [sh, -c, 'cat; ! touch /written 2> /dev/null']}}",
                "{containers: [{name: worker, image: numeric:dev, securityContext: {readOnlyRootFilesystem: true}}]}",
            ),
            // One static program and nothing else: no shell, no /tmp, no libraries.
            (
                "bare",
                "{exec: {command: [/cat]}}",
                "{containers: [{name: worker, image: bare:dev, securityContext: {runAsUser: 7, readOnlyRootFilesystem: true}}]}",
            ),
        ];
        let batches: String = images.iter().map(|(name, executor, pod)| five(name, executor, pod)).collect();
        test.apply(&batches).await?;
        expect(test, "root", |number| format!("{number} 1000\n")).await?;
        expect(test, "named", |number| format!("{number} 1001\n")).await?;
        expect(test, "numeric", |number| format!("{number} 1234\n")).await?;
        expect(test, "readonly", |number| number.to_string()).await?;
        expect(test, "bare", |number| number.to_string()).await
    })
    .await
}

#[tokio::test]
async fn every_executor_runs() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let executors = [
            // The container's own command and arguments, of which the kubelet expands what the container sets.
            (
                "own",
                "{exec: {}}",
                r#"{containers: [{name: worker, image: numeric:dev, env: [{name: GREETING, value: hello}],
                    command: [sh, -c, 'printf "$(GREETING) $1 $(cat) $JOB_COMPLETION_INDEX"', sh], args: ["<$(GREETING)>"]}]}"#,
            ),
            ("lines", "{process: {command: [awk, '{print $0 \"!\"; fflush()}']}}", "{containers: [{name: worker, image: numeric:dev}]}"),
            (
                "library",
                "{library: {command: [/closure]}}",
                "{containers: [{name: worker, image: closure:dev, securityContext: {runAsUser: 1000}}]}",
            ),
            // The worker is not the first container, and reads what an init container left.
            (
                "several",
                "{exec: {command: [sh, -c, 'cat /shared/greeting; cat']}}",
                r#"{volumes: [{name: shared, emptyDir: {}}],
                    initContainers: [{name: prepare, image: numeric:dev, command: [sh, -c, 'printf "hello " > /shared/greeting'],
                      volumeMounts: [{name: shared, mountPath: /shared}]}],
                    containers: [{name: beside, image: numeric:dev, command: [sleep, infinity]},
                      {name: worker, image: numeric:dev, volumeMounts: [{name: shared, mountPath: /shared}]}]}"#,
            ),
        ];
        let batches: String = executors.iter().map(|(name, executor, pod)| five(name, executor, pod)).collect();
        test.apply(&batches).await?;
        expect(test, "own", |number| format!("hello <hello> {number} {number}")).await?;
        expect(test, "lines", |number| format!("{number}!")).await?;
        let factors = ["0:", "1:", "2: 2", "3: 3", "4: 2 2"];
        expect(test, "library", |number| {
            usize::try_from(number).ok().and_then(|number| factors.get(number)).copied().unwrap_or_default().to_owned()
        })
        .await?;
        expect(test, "several", |number| format!("hello {number}")).await
    })
    .await
}

#[tokio::test]
async fn root_runs_where_the_namespace_lets_it() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let label = "pod-security.kubernetes.io/enforce=privileged";
        test.kubectl(&["label", "--overwrite", "namespace", &test.namespace, label])
            .await?;
        let pod = "{securityContext: {runAsNonRoot: false}, containers: [{name: worker, image: shell:dev}]}";
        test.apply(&five("root", WHO, pod)).await?;
        expect(test, "root", |number| format!("{number} 0\n")).await
    })
    .await
}

/// Waits until the batch says why it does not go on.
async fn trouble(test: &Scenario, name: &str, reason: &str, said: &[&str]) -> Result<()> {
    let what = format!("batch {name} to say {said:?}");
    test.wait_for(&what, TOLD_WITHIN, name, |batch: &HarmonyBatch| {
        let told = condition(batch, PROGRESSING).context("no condition Progressing")?;
        ensure!(told.status == "False" && told.reason == reason, "{told:?}");
        ensure!(said.iter().all(|said| told.message.contains(said)), "{told:?}");
        Ok(())
    })
    .await?;
    let what = format!("an event {reason}");
    eventually(&what, TOLD_WITHIN, async || {
        let events = test.api::<Event>().list(&ListParams::default()).await?;
        let told = events.iter().find(|event| {
            event.involved_object.name.as_deref() == Some(name) && event.reason.as_deref() == Some(reason)
        });
        let note = told
            .with_context(|| format!("none among {}", events.items.len()))?
            .message
            .clone();
        let note = note.unwrap_or_default();
        ensure!(said.iter().all(|said| note.contains(said)), "{note}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_user_that_may_be_root_is_told_what_to_set() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let without = |image| format!("{{containers: [{{name: worker, image: '{image}'}}]}}");
        test.apply(&(five("named", WHO, &without("named:dev")) + &five("root", WHO, &without("shell:dev"))))
            .await?;
        let way_out = "spec.template.spec.securityContext.runAsUser";
        for name in ["named", "root"] {
            trouble(test, name, reason::POD_NOT_CONFIGURED, &["runAsNonRoot", way_out]).await?;
        }
        // With what it says to set, the batches go on.
        let with = |image| {
            format!("{{securityContext: {{runAsUser: 1001}}, containers: [{{name: worker, image: '{image}'}}]}}")
        };
        test.apply(&(five("named", WHO, &with("named:dev")) + &five("root", WHO, &with("shell:dev"))))
            .await?;
        for name in ["named", "root"] {
            expect(test, name, |number| format!("{number} 1001\n")).await?;
        }
        Ok(())
    })
    .await
}

const LIMITS: &str = "---
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
    - {type: Container, max: {cpu: '2', memory: 1Gi}, default: {cpu: 200m, memory: 64Mi}, defaultRequest: {cpu: 10m, memory: 32Mi}}
";

const QUOTA: &str = "---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec: {hard: {requests.cpu: '4', requests.memory: 4Gi, limits.cpu: '8', limits.memory: 8Gi, pods: '4'}}
";

#[tokio::test]
async fn limits_and_quotas_of_the_namespace_are_kept() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        // The quota wants requests and limits of every container: the worker's come from the defaults.
        test.apply(&format!("{LIMITS}{QUOTA}")).await?;
        let pod = "{containers: [{name: worker, image: numeric:dev}]}";
        test.apply(&five("defaults", WHO, pod)).await?;
        expect(test, "defaults", |number| format!("{number} 1234\n")).await?;
        test.kubectl(&["delete", "limitrange/limits", "harmonybatch/defaults"]).await?;

        // Without defaults the quota refuses the worker, and the batch says what is missing.
        test.apply(&five("bounded", WHO, pod)).await?;
        trouble(test, "bounded", reason::PODS_REFUSED, &["quota", "must specify limits.cpu", "worker"]).await?;
        let resources = "{cpu: 100m, memory: 64Mi}";
        let pod = format!(
            "{{containers: [{{name: worker, image: numeric:dev, resources: {{requests: {resources}, limits: {resources}}}}}]}}"
        );
        test.apply(&five("bounded", WHO, &pod)).await?;
        expect(test, "bounded", |number| format!("{number} 1234\n")).await
    })
    .await
}

#[tokio::test]
async fn a_collector_that_is_over_the_limits_says_so() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&LIMITS.replace("memory: 1Gi", "memory: 512Mi")).await?;
        let pod = "{containers: [{name: worker, image: numeric:dev}]}";
        test.apply(&five("large", WHO, pod)).await?;
        let way_out = "spec.collector.resources";
        trouble(test, "large", reason::PODS_REFUSED, &["maximum memory usage per Container is 512Mi", way_out]).await?;
        test.kubectl(&["delete", "harmonybatch/large"]).await?;
        let small = format!(
            "{}  collector: {{resources: {{requests: {{cpu: 50m, memory: 64Mi}}, limits: {{cpu: '1', memory: 256Mi}}}}}}\n",
            five("small", WHO, pod)
        );
        test.apply(&small).await?;
        expect(test, "small", |number| format!("{number} 1234\n")).await
    })
    .await
}

/// Tasks of the batch below. Each of two workers runs one and has one queued behind it: those take so long that none ends
/// between a look at the batch and the signal to a worker, whose queue would be empty just then.
const SLOW_TASKS: u64 = 20;

const SLOW: &str = "
apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {name: slow}
spec:
  completions: 20
  parallelism: 2
  backoffLimitPerIndex: 0
  executor: {exec: {command: [sh, -c, 'read number; if [ $number -lt 4 ]; then sleep 12; else sleep 1; fi; hostname']}}
  template: {spec: {containers: [{name: worker, image: numeric:dev}]}}
";

#[tokio::test]
async fn a_worker_that_is_asked_to_leave_hands_its_tasks_back() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(SLOW).await?;
        test.wait_for("both workers to be full", WITHIN, "slow", |batch: &HarmonyBatch| {
            let status = batch.status.clone().context("no status")?;
            let in_flight = status.tasks.unwrap_or_default().in_flight;
            ensure!(status.ready == 2 && in_flight == 4, "{status:?}");
            Ok(())
        })
        .await?;
        let workers = test.pods_of("slow", WORKER_ROLE).await?;
        let leaving = workers.first().context("no worker")?.name_any();
        let asked = Timestamp::now().as_microsecond();
        test.api::<Pod>().delete(&leaving, &DeleteParams::default()).await?;
        test.wait_for_condition("slow", COMPLETE, WITHIN).await?;

        let results = test.results("slow").await?;
        let numbers: Vec<_> = results.iter().map(|line| line.number).collect();
        assert_eq!(numbers, (0..SLOW_TASKS).collect::<Vec<_>>());
        assert!(results.iter().all(|line| line.attempt == 1), "{results:?}");
        let joblog = test.harmony_prints(&["joblog", "slow"]).await?;
        println!("{joblog}");
        assert_eq!(
            joblog.lines().count() as u64,
            SLOW_TASKS + 1,
            "no task ran to its end twice"
        );
        let last = last_end(&joblog, &leaving).context("the worker is not in the job log")?;
        assert!(last > asked, "what ran at the worker was stopped instead of recorded");
        let resent = resent_as_returned(test).await?;
        println!("handed back: {resent}");
        assert!(resent > 0, "nothing was handed back");
        assert_eq!(test.pods_of("slow", COLLECTOR_ROLE).await?.len(), 1);
        for pod in test.pods_of("slow", WORKER_ROLE).await? {
            assert_ne!(pod.name_any(), leaving);
        }
        Ok(())
    })
    .await
}

/// When the last task of a worker ended, in microseconds.
fn last_end(joblog: &str, worker: &str) -> Option<i64> {
    let rows = joblog.lines().skip(1).filter_map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let [_, _, by, start, duration, ..] = columns.as_slice() else {
            return None;
        };
        let start = start.parse::<Timestamp>().ok()?.as_microsecond();
        let ran = Duration::from_secs_f64(duration.parse().ok()?).as_micros();
        (*by == worker).then_some(start + i64::try_from(ran).ok()?)
    });
    rows.max()
}

/// What the leading operator counts as handed back.
async fn resent_as_returned(test: &Scenario) -> Result<u64> {
    let pods = Api::<Pod>::namespaced(test.client.clone(), OPERATOR_NAMESPACE);
    let series = format!(
        "harmony_tasks_resent_total{{namespace=\"{}\",batch=\"slow\",reason=\"returned\"}} ",
        test.namespace
    );
    for pod in pods
        .list(&ListParams::default().labels("app.kubernetes.io/component=operator"))
        .await?
    {
        let metrics = fetch_forwarded(&pods, &pod.name_any(), 27_780, "/metrics").await?;
        if let Some(count) = metrics.lines().find_map(|line| line.strip_prefix(&series)) {
            return Ok(count.parse()?);
        }
    }
    anyhow::bail!("no operator shows {series}")
}
