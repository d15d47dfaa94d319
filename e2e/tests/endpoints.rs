//! What every process shows of itself in pods, who can see it, and the walls around them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harmony_api::conditions::{COMPLETE, PROGRESSING};
use harmony_api::conventions::{
    COLLECTOR_ROLE, LINK_PORT, LOOPBACK_PORT, METRICS_PORT, METRICS_PORT_NAME, WORKER_ROLE,
};
use harmony_e2e::{OPERATOR_NAMESPACE, Scenario, ensure_installed, eventually, fetch_forwarded, scenario};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;

/// For a small batch from its creation to its end, on a busy machine.
const WITHIN: Duration = Duration::from_mins(3);

/// Five tasks that end at once, one of them after a retry, and one that waits for a file in its worker.
const HELD: &str = r"
apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {name: held}
spec:
  completions: 6
  slotsPerWorker: 2
  executor:
    exec:
      command: [sh, -c, '[ $HARMONY_TASK != 2 ] || [ $HARMONY_ATTEMPT = 2 ] || exit 1; [ $HARMONY_TASK != 5 ] || until [ -e /flag/go ]; do sleep 0.1; done']
  template:
    spec:
      volumes: [{name: flag, emptyDir: {}}]
      containers: [{name: worker, image: numeric:dev, volumeMounts: [{name: flag, mountPath: /flag}]}]
";

/// A pod that asks others.
const PROBE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  terminationGracePeriodSeconds: 0
  containers:
    - name: probe
      image: shell:dev
      command: [sleep, infinity]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
";

/// What a pod's container port `metrics` answers, asked by the pod's address from another pod.
async fn ask(test: &Scenario, pod: &Pod, path: &str) -> Result<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(METRICS_PORT_NAME));
    let port = port
        .with_context(|| format!("{} has no port {METRICS_PORT_NAME}", pod.name_any()))?
        .container_port;
    ask_port(test, pod, port, path).await
}

async fn ask_port(test: &Scenario, pod: &Pod, port: i32, path: &str) -> Result<String> {
    let address = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.clone())
        .context("no address")?;
    // The server takes the end of the request's stream as the end of the connection, so that stays open for a while; the
    // wget of this image ends by a signal where an answer comes in chunks.
    let ask = format!("{{ printf 'GET {path} HTTP/1.0\\r\\n\\r\\n'; sleep 1; }} | nc -w 10 {address} {port}");
    let answer = test.exec("probe", &["sh", "-c", &ask]).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("no head: {answer}"))?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{path}: {status}: {body}");
    Ok(body.to_owned())
}

/// The series of a page of metrics, by name and labels.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Each line must be a comment or a series with a number, and each family must say its type and its meaning.
    fn parse(text: &str) -> Result<Self> {
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
            let family = name.split('{').next().unwrap_or_default();
            let plain = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| family.strip_suffix(end));
            let told = |family: &str| {
                ["HELP", "TYPE"]
                    .iter()
                    .all(|word| text.contains(&format!("# {word} {family} ")))
            };
            ensure!(
                told(family) || plain.is_some_and(told),
                "{family} has no type or no meaning"
            );
            ensure!(!name.contains("pod="), "a label with a pod's name: {line}");
            series.insert(
                name.to_owned(),
                value.parse().with_context(|| format!("no number: {line}"))?,
            );
        }
        Ok(Self(series))
    }

    /// The value of a series that has these labels and no others.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let labels: Vec<_> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let series = if labels.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", labels.join(","))
        };
        let found = self.0.get(&series).copied();
        found.with_context(|| format!("no {series} among {:?}", self.0.keys().collect::<Vec<_>>()))
    }

    fn expect(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        let found = self.value(name, labels)?;
        ensure!(
            (found - value).abs() < f64::EPSILON,
            "{name}{labels:?} is {found} instead of {value}"
        );
        Ok(())
    }
}

fn operators(test: &Scenario) -> Api<Pod> {
    Api::namespaced(test.client.clone(), OPERATOR_NAMESPACE)
}

/// The operator that leads, and its metrics. All of them are asked: one leads, the others say that they do not.
async fn leader(test: &Scenario) -> Result<(Pod, Metrics)> {
    let labels = ListParams::default().labels("app.kubernetes.io/component=operator");
    let mut leaders = Vec::new();
    for pod in operators(test).list(&labels).await? {
        let metrics = Metrics::parse(&ask(test, &pod, "/metrics").await?)?;
        match metrics.value("harmony_operator_leader", &[])? {
            1.0 => leaders.push((pod, metrics)),
            other => ensure!(other == 0.0, "harmony_operator_leader is {other}"),
        }
    }
    ensure!(leaders.len() == 1, "{} operators lead", leaders.len());
    leaders.pop().context("nobody leads")
}

/// What the operator says of the batch `held`: by state, by result and by reason, all that there is.
fn expect_counts(metrics: &Metrics, namespace: &str, [pending, in_flight, succeeded]: [f64; 3]) -> Result<()> {
    let of = |label, value| [("namespace", namespace), ("batch", "held"), (label, value)];
    let batch = [("namespace", namespace), ("batch", "held")];
    metrics.expect("harmony_batch_completions", &batch, 6.0)?;
    for (state, count) in [
        ("pending", pending),
        ("in_flight", in_flight),
        ("succeeded", succeeded),
        ("failed", 0.0),
    ] {
        metrics.expect("harmony_batch_tasks", &of("state", state), count)?;
    }
    // Six tasks and one retry.
    metrics.expect("harmony_tasks_dispatched_total", &batch, 7.0)?;
    for (result, count) in [("succeeded", succeeded), ("failed", 0.0), ("retried", 1.0)] {
        metrics.expect("harmony_tasks_finished_total", &of("result", result), count)?;
    }
    for (reason, count) in [
        ("retry", 1.0),
        ("worker_lost", 0.0),
        ("missing_at_collector", 0.0),
        ("returned", 0.0),
        ("unbound", 0.0),
    ] {
        metrics.expect("harmony_tasks_resent_total", &of("reason", reason), count)?;
    }
    Ok(())
}

/// What the operator says of the batch `held` besides counts.
fn expect_status(metrics: &Metrics, namespace: &str) -> Result<()> {
    let of = |label, value| [("namespace", namespace), ("batch", "held"), (label, value)];
    metrics.expect("harmony_batch_info", &of("executor", "exec"), 1.0)?;
    metrics.expect("harmony_worker_pods_failed_total", &of("reason", "OOMKilled"), 0.0)?;
    for (status, holds) in [("true", 1.0), ("false", 0.0), ("unknown", 0.0)] {
        let [namespace, batch, condition] = of("condition", PROGRESSING);
        let labels = [namespace, batch, condition, ("status", status)];
        metrics.expect("harmony_batch_status_condition", &labels, holds)?;
    }
    let batch = [("namespace", namespace), ("batch", "held")];
    let started = metrics.value("harmony_batch_start_timestamp_seconds", &batch)?;
    let recorded = metrics.value("harmony_batch_last_progress_timestamp_seconds", &batch)?;
    ensure!(
        started > 0.0 && started <= recorded,
        "started {started}, recorded {recorded}"
    );
    Ok(())
}

async fn only(test: &Scenario, role: &str) -> Result<Pod> {
    let mut pods = test.pods_of("held", role).await?;
    ensure!(pods.len() == 1, "{} pods of role {role}", pods.len());
    pods.pop().context("no pod")
}

#[tokio::test]
async fn metrics_and_state_tell_what_the_batch_tells() -> Result<()> {
    ensure_installed().await?;
    // Boxed: it waits for much.
    Box::pin(scenario(async |test| {
        test.apply(PROBE).await?;
        test.apply(HELD).await?;
        test.wait_for_ready("probe").await?;
        let namespace = test.namespace.as_str();
        eventually("five tasks to be recorded", WITHIN, async || {
            let (_, metrics) = leader(test).await?;
            expect_counts(&metrics, namespace, [0.0, 1.0, 5.0])
        })
        .await?;
        let (operator, metrics) = leader(test).await?;
        let workers = |state| [("namespace", namespace), ("batch", "held"), ("state", state)];
        for (state, count) in [
            ("connecting", 0.0),
            ("idle", 0.0),
            ("busy", 1.0),
            ("draining", 0.0),
            ("suspect", 0.0),
        ] {
            metrics.expect("harmony_workers", &workers(state), count)?;
        }
        let answered = [("code", "200"), ("method", "GET")];
        let requests = metrics.value("harmony_operator_api_requests_total", &answered)?;
        ensure!(requests >= 1.0, "the API server was asked for nothing");
        expect_status(&metrics, namespace)?;
        ensure!(
            metrics.value("harmony_status_patches_total", &[])? >= 1.0,
            "no status was written"
        );

        let (worker, collector) = (only(test, WORKER_ROLE).await?, only(test, COLLECTOR_ROLE).await?);
        let of_worker = Metrics::parse(&ask(test, &worker, "/metrics").await?)?;
        of_worker.expect("harmony_worker_slots", &[("state", "busy")], 1.0)?;
        of_worker.expect("harmony_worker_slots", &[("state", "idle")], 1.0)?;
        of_worker.expect("harmony_worker_attempts_total", &[("result", "succeeded")], 5.0)?;
        of_worker.expect("harmony_worker_attempts_total", &[("result", "failed")], 1.0)?;
        for pod in [&operator, &collector, &worker] {
            for path in ["/healthz", "/readyz"] {
                assert_eq!(ask(test, pod, path).await?.trim(), "ok", "{path} of {}", pod.name_any());
            }
        }
        state_is_private(test, &operators(test), &operator, "leader").await?;
        state_is_private(test, &test.api(), &worker, "").await?;
        state_is_private(test, &test.api(), &collector, "").await?;

        test.exec(&worker.name_any(), &["touch", "/flag/go"]).await?;
        let batch = test.wait_for_condition("held", COMPLETE, WITHIN).await?;
        let counts = batch.status.and_then(|status| status.tasks).context("no counts")?;
        assert_eq!((counts.total, counts.succeeded, counts.failed), (6, 6, 0));
        assert_eq!(test.results("held").await?.len(), 6);
        expect_counts(&leader(test).await?.1, namespace, [0.0, 0.0, 6.0])?;
        let of_collector = Metrics::parse(&ask(test, &collector, "/metrics").await?)?;
        of_collector.expect("harmony_collector_tasks", &[("state", "succeeded")], 6.0)?;
        of_collector.expect("harmony_task_results_duplicate_total", &[], 0.0)?;
        // Six tasks and one retry.
        of_collector.expect("harmony_task_duration_seconds_count", &[], 7.0)?;
        of_collector.expect("harmony_tasks_failed_total", &[("reason", "ExitCode")], 0.0)?;
        let flushes = of_collector.value("harmony_collector_flush_duration_seconds_count", &[])?;
        println!("{flushes} flushes for 7 outcomes");
        ensure!(flushes >= 1.0, "nothing was flushed");
        Ok(())
    }))
    .await
}

/// `/debug/state` comes by port-forward as JSON, with a field, and never by the pod's address.
async fn state_is_private(test: &Scenario, pods: &Api<Pod>, pod: &Pod, field: &str) -> Result<()> {
    let name = pod.name_any();
    let state = fetch_forwarded(pods, &name, LOOPBACK_PORT, "/debug/state").await?;
    let state: Value = serde_json::from_str(&state).with_context(|| format!("no JSON: {state}"))?;
    ensure!(
        state.as_object().is_some_and(|state| !state.is_empty()),
        "{name} shows {state}"
    );
    ensure!(field.is_empty() || state.get(field).is_some(), "no {field} in {state}");
    match ask_port(test, pod, LOOPBACK_PORT.into(), "/debug/state").await {
        Ok(answer) => bail!("{name} shows its state to everybody: {answer}"),
        Err(refused) => ensure!(format!("{refused:#}").contains("refused"), "{refused:#}"),
    }
    // Not by the open port either.
    match ask(test, pod, "/debug/state").await {
        Ok(answer) => bail!("{name} shows its state to everybody: {answer}"),
        Err(missing) => ensure!(format!("{missing:#}").contains("404"), "{missing:#}"),
    }
    Ok(())
}

fn open_ports(policy: &NetworkPolicy) -> Vec<(Option<IntOrString>, bool)> {
    let rules = policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten());
    rules
        .flat_map(|rule| {
            let everybody = rule.from.as_ref().is_none_or(Vec::is_empty);
            rule.ports
                .iter()
                .flatten()
                .map(move |port| (port.port.clone(), everybody))
        })
        .collect()
}

#[tokio::test]
async fn policies_surround_the_pods() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(HELD).await?;
        let roles = [WORKER_ROLE, COLLECTOR_ROLE];
        eventually("a policy for each role", WITHIN, async || {
            let policies = test.api::<NetworkPolicy>().list(&ListParams::default()).await?;
            for role in roles {
                let of_role = |policy: &&NetworkPolicy| {
                    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
                    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
                    labels.is_some_and(|labels| labels.get("harmony.dev/role").map(String::as_str) == Some(role))
                };
                let policy = policies
                    .items
                    .iter()
                    .find(of_role)
                    .with_context(|| format!("none for {role}"))?;
                let port = |port: u16| Some(IntOrString::Int(port.into()));
                let expected = [(port(LINK_PORT), false), (port(METRICS_PORT), true)];
                ensure!(open_ports(policy) == expected, "{role}: {:?}", open_ports(policy));
            }
            Ok(())
        })
        .await?;
        let own = Api::<NetworkPolicy>::namespaced(test.client.clone(), OPERATOR_NAMESPACE);
        ensure!(
            !own.list(&ListParams::default()).await?.items.is_empty(),
            "the operator has no policy"
        );
        let namespace = Api::<Namespace>::all(test.client.clone())
            .get(OPERATOR_NAMESPACE)
            .await?;
        let enforced = namespace
            .labels()
            .get("pod-security.kubernetes.io/enforce")
            .map(String::as_str);
        assert_eq!(enforced, Some("restricted"));
        Ok(())
    })
    .await
}
