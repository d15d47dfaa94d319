//! Worker pods: short YAML of a batch in, whole pods out.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by them

mod support;

use std::collections::BTreeMap;

use harmony_api::conventions::{AGENT_CONTAINER, AGENT_VOLUME};
use harmony_operator::reconcile::build::{Delivery, Links, Settings, build, worker_pod};
use k8s_openapi::api::core::v1::{Pod, PodSpec, SecurityContext, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use self::support::{SMALL, assert_written, batch, filter, named, restricted, settings, worker, worker_spec};

fn args(spec: &str) -> Vec<String> {
    named(&worker_spec(spec).containers, "worker").args.clone().unwrap()
}

/// The value of a flag.
#[track_caller]
fn flag(args: &[String], flag: &str) -> String {
    let at = args.iter().position(|arg| arg == flag).unwrap();
    args[at + 1].clone()
}

fn tail(args: &[String]) -> Option<&[String]> {
    args.iter().position(|arg| arg == "--").map(|at| &args[at + 1..])
}

fn context(spec: &PodSpec, container: &str) -> SecurityContext {
    let all: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .cloned()
        .collect();
    named(&all, container).security_context.clone().unwrap()
}

#[test]
fn the_smallest_template_becomes_a_whole_pod() {
    let mut pod = worker(SMALL);
    let labels = pod.metadata.labels.as_mut().unwrap();
    let revision = labels.remove("harmony.dev/revision").unwrap();
    assert_eq!(revision.len(), 10, "{revision}");
    assert_written(&pod, include_str!("expected/worker.yaml"));
}

#[test]
fn each_executor_has_its_own_command_line() {
    let exec = args(
        "
  completions: 1
  executor: {exec: {command: [sh, -c, 'echo $(date) $$']}}
  template: {spec: {containers: [{name: worker, image: i, command: [own], args: [left, out]}]}}
",
    );
    let json = r#"{"exec":{"command":["sh","-c","echo $$(date) $$$$"]}}"#;
    assert_eq!(
        flag(&exec, "--executor"),
        json,
        "the kubelet expands nothing that START has literally"
    );
    assert_eq!(tail(&exec), None);

    let own = args(
        "
  completions: 1
  executor: {exec: {}}
  template: {spec: {containers: [{name: worker, image: i, command: [own, $(A)], args: [$(B), c]}]}}
",
    );
    assert_eq!(flag(&own, "--executor"), r#"{"exec":{"command":[]}}"#);
    assert_eq!(tail(&own).unwrap(), ["own", "$(A)", "$(B)", "c"]);

    let process = args(&filter("[{name: worker, image: i}]"));
    assert_eq!(
        flag(&process, "--executor"),
        r#"{"process":{"command":["/filter"],"framing":"lines"}}"#
    );
    assert_eq!(tail(&process), None);
}

#[test]
fn a_program_of_ones_own_takes_the_place_of_the_agent() {
    let pod = worker_spec(
        "
  completions: 1
  executor: {library: {command: [/own, --fast]}}
  template: {spec: {containers: [{name: worker, image: i}]}}
",
    );
    assert_eq!(pod.init_containers, None);
    let volumes: Vec<_> = pod
        .volumes
        .iter()
        .flatten()
        .map(|volume| volume.name.as_str())
        .collect();
    assert_eq!(volumes, ["harmony-spool"]);
    let worker = named(&pod.containers, "worker");
    assert_eq!(worker.command.as_ref().unwrap(), &["/own", "--fast"]);
    assert_eq!(flag(worker.args.as_ref().unwrap(), "--executor"), r#""library""#);
}

#[test]
fn the_container_named_worker_runs_the_tasks_wherever_it_stands() {
    let pod = worker_spec(&filter(
        "[{name: log, image: l}, {name: worker, image: w}, {name: db, image: d, command: [db]}]",
    ));
    let names: Vec<_> = pod.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["log", "worker", "db"]);
    let command = |name| named(&pod.containers, name).command.clone();
    assert_eq!(command("worker").unwrap(), ["/harmony/harmony", "worker"]);
    assert_eq!(command("log"), None);
    assert_eq!(command("db").unwrap(), ["db"]);

    let pod = worker_spec(&filter("[{name: a, image: a}, {name: b, image: b}]"));
    assert!(named(&pod.containers, "a").command.is_some());
    assert_eq!(named(&pod.containers, "b").command, None);
}

#[test]
fn the_agent_comes_before_the_users_own_init_containers() {
    let pod = worker_spec(&filter(
        "[{name: worker, image: w}], initContainers: [{name: fetch, image: f}]",
    ));
    let inits = pod.init_containers.as_ref().unwrap();
    let names: Vec<_> = inits.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, [AGENT_CONTAINER, "fetch"]);
    assert!(restricted::violations(&pod).is_empty());
    let mounts = |containers: &[_], name| named(containers, name).volume_mounts.clone();
    assert_eq!(mounts(inits, "fetch"), None, "the agent's volume is the agent's");
    let mount = &mounts(&pod.containers, "worker").unwrap()[0];
    assert_eq!((mount.name.as_str(), mount.read_only), (AGENT_VOLUME, Some(true)));
}

#[test]
fn the_agent_keeps_the_pods_class_of_service() {
    let cpu_of_agent = |resources: &str| {
        let mut spec = worker_spec(&filter(&format!(
            "[{{name: worker, image: w, resources: {resources}}}]"
        )));
        let agent = spec.init_containers.as_mut().unwrap().remove(0).resources.unwrap();
        let cpu_of = |amounts: Option<BTreeMap<_, Quantity>>| amounts.unwrap()["cpu"].0.clone();
        (cpu_of(agent.requests), cpu_of(agent.limits))
    };
    let (equal, apart) = (("50m".into(), "50m".into()), ("10m".into(), "500m".into()));
    assert_eq!(cpu_of_agent("{limits: {cpu: '1', memory: 1Gi}}"), equal);
    let same = "{limits: {cpu: '1', memory: 1Gi}, requests: {cpu: '1', memory: 1Gi}}";
    assert_eq!(cpu_of_agent(same), equal);
    for burstable in [
        "{}",
        "{limits: {memory: 1Gi}}",
        "{limits: {cpu: '1', memory: 1Gi}, requests: {cpu: 500m}}",
    ] {
        assert_eq!(cpu_of_agent(burstable), apart, "{burstable}");
    }
}

#[test]
fn users_decide_who_their_containers_run_as() {
    let of = |pod: &str, container: &str| {
        let pod = worker_spec(&filter(&format!("[{{name: worker, image: i{container}}}]{pod}")));
        let context = context(&pod, "worker");
        let agent = self::context(&pod, AGENT_CONTAINER);
        assert_eq!((agent.run_as_user, agent.run_as_non_root), (Some(65_532), Some(true)));
        (context.run_as_user, context.run_as_non_root)
    };
    // An image with a numeric user: the kubelet checks that it is not root.
    assert_eq!(of("", ""), (None, Some(true)));
    // An image with a named user, or with root: a number makes it known, and others than root pass.
    assert_eq!(
        of("", ", securityContext: {runAsUser: 1000}"),
        (Some(1_000), Some(true))
    );
    assert_eq!(of(", securityContext: {runAsUser: 1000}", ""), (None, Some(true)));
    // Whoever asks for root gets it, where the namespace lets them.
    assert_eq!(of("", ", securityContext: {runAsUser: 0}"), (Some(0), None));
    assert_eq!(of(", securityContext: {runAsUser: 0}", ""), (None, None));
    assert_eq!(
        of(", securityContext: {runAsUser: 0}", ", securityContext: {runAsUser: 7}"),
        (Some(7), Some(true))
    );
    assert_eq!(of(", securityContext: {runAsNonRoot: false}", ""), (None, None));
    assert_eq!(of("", ", securityContext: {runAsNonRoot: false}"), (None, Some(false)));
}

#[test]
fn nothing_is_filled_that_contradicts_the_template() {
    let of = |context: &str| {
        let spec = filter(&format!("[{{name: worker, image: i, securityContext: {context}}}]"));
        self::context(&worker_spec(&spec), "worker")
    };
    let privileged = of("{privileged: true}");
    assert_eq!(
        (privileged.allow_privilege_escalation, privileged.capabilities),
        (None, None)
    );
    let admin = of("{capabilities: {add: [SYS_ADMIN]}}");
    assert_eq!(admin.allow_privilege_escalation, None);
    let bind = of("{capabilities: {add: [NET_BIND_SERVICE]}}");
    assert_eq!(bind.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    let kept = of("{capabilities: {drop: [NET_RAW]}, allowPrivilegeEscalation: true}");
    assert_eq!(kept.capabilities.unwrap().drop.unwrap(), ["NET_RAW"]);
    assert_eq!(kept.allow_privilege_escalation, Some(true));
}

#[test]
fn running_tasks_get_the_grace_period_but_for_what_leaving_takes() {
    for (period, grace) in [
        ("", "25"),
        (", terminationGracePeriodSeconds: 600", "595"),
        (", terminationGracePeriodSeconds: 4", "2"),
        (", terminationGracePeriodSeconds: 0", "0"),
    ] {
        let spec = filter(&format!("[{{name: worker, image: i}}]{period}"));
        assert_eq!(flag(&args(&spec), "--grace"), grace, "{period}");
    }
}

#[test]
fn own_tolerations_of_lost_nodes_are_kept() {
    let of = |tolerations: &str| {
        let spec = filter(&format!("[{{name: worker, image: i}}], tolerations: {tolerations}"));
        worker_spec(&spec).tolerations.unwrap()
    };
    let added = |tolerations: &[Toleration]| {
        tolerations
            .iter()
            .filter(|toleration| toleration.toleration_seconds == Some(30))
            .count()
    };
    assert_eq!(added(&of("[]")), 2);
    assert_eq!(added(&of("[{key: gpu, operator: Exists}]")), 2);
    assert_eq!(
        added(&of(
            "[{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]"
        )),
        1
    );
    assert_eq!(
        added(&of(
            "[{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoSchedule}]"
        )),
        2
    );
    assert_eq!(added(&of("[{operator: Exists}]")), 0);
}

#[test]
fn switches_of_meshes_and_autoscalers_are_kept() {
    let of = |metadata: &str| {
        worker(&format!(
            "
  completions: 1
  executor: {{process: {{command: [cat]}}}}
  template: {{metadata: {metadata}, spec: {{containers: [{{name: worker, image: i}}]}}}}
"
        ))
        .metadata
    };
    let istio = "sidecar.istio.io/inject";
    assert_eq!(of("{}").labels.unwrap()[istio], "false");
    assert_eq!(
        of("{labels: {sidecar.istio.io/inject: 'true'}}").labels.unwrap()[istio],
        "true"
    );
    let annotated = of("{annotations: {sidecar.istio.io/inject: 'true', linkerd.io/inject: enabled}}");
    assert_eq!(annotated.labels.unwrap().get(istio), None);
    let annotations = annotated.annotations.unwrap();
    assert_eq!(annotations["linkerd.io/inject"], "enabled");
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "true");
}

#[test]
fn certificates_take_the_place_of_the_flag_for_plain_tcp() {
    let batch = batch(SMALL);
    let pod = worker_pod(&batch, &settings(Links::MutualTls), 0, 0).spec.unwrap();
    assert!(restricted::violations(&pod).is_empty());
    let worker = named(&pod.containers, "worker");
    let args = worker.args.as_ref().unwrap();
    assert!(!args.contains(&"--insecure-tcp".to_owned()));
    assert_eq!(flag(args, "--tls-key"), "/harmony-tls/tls.key");
    assert_eq!(flag(args, "--tls-peer-name"), "hb-render-6f1c2a34-c.films.svc");
    let volume = pod.volumes.unwrap().pop().unwrap();
    let secret = volume.secret.unwrap();
    assert_eq!(secret.secret_name, Some(batch.names.worker_certificate()));
    let keys: Vec<_> = secret.items.unwrap().into_iter().map(|item| item.key).collect();
    assert_eq!(
        keys,
        ["ca.crt", "tls.crt", "tls.key"],
        "nothing else of the Secret reaches the pod"
    );
}

#[test]
fn a_revision_changes_with_what_pods_are_made_from_and_with_nothing_else() {
    let small = batch(SMALL).revision;
    assert_eq!(
        batch(&SMALL.replace("completions: 10", "completions: 20")).revision,
        small
    );
    assert_eq!(
        batch(&format!("{SMALL}  parallelism: 7\n  suspend: true\n")).revision,
        small
    );
    for (before, after) in [("example/render:1", "example/render:2"), ("--index", "--number")] {
        assert_ne!(batch(&SMALL.replace(before, after)).revision, small, "{after}");
    }
    for field in ["slotsPerWorker: 2", "activeDeadlineSecondsPerIndex: 9"] {
        assert_ne!(batch(&format!("{SMALL}  {field}\n")).revision, small, "{field}");
    }
    let filtered =
        |command: &str| batch(&format!("{SMALL}  executor: {{process: {{command: [{command}]}}}}\n")).revision;
    assert_ne!(filtered("a"), filtered("b"));
}

#[test]
fn the_images_secrets_come_behind_those_of_the_template() {
    let spec = "
  completions: 10
  template: {spec: {imagePullSecrets: [{name: own}, {name: both}], containers: [{name: worker, image: i, command: [c]}]}}
";
    let mut settings = settings(Links::InsecureTcp);
    settings.image_pull_secrets = vec!["both".to_owned(), "harmony".to_owned()];
    let batch = batch(spec);
    let names = |pod: Pod| -> Vec<_> {
        let secrets = pod.spec.unwrap().image_pull_secrets.unwrap();
        secrets.into_iter().map(|secret| secret.name).collect()
    };
    assert_eq!(names(worker_pod(&batch, &settings, 0, 0)), ["own", "both", "harmony"]);
    assert_eq!(names(build(&batch, &settings).collector), ["both", "harmony"]);
}

#[test]
fn pods_say_where_their_metrics_are_if_they_are_to() {
    let settings = Settings {
        scrape_annotations: true,
        ..settings(Links::InsecureTcp)
    };
    let own = SMALL.replace(
        "template: {",
        "template: {metadata: {annotations: {prometheus.io/port: '80'}}, ",
    );
    let batch = batch(&own);
    let annotation = |pod: &Pod, name: &str| pod.metadata.annotations.as_ref().unwrap().get(name).cloned();
    let (worker, collector) = (worker_pod(&batch, &settings, 0, 0), build(&batch, &settings).collector);
    for (pod, port) in [(&worker, "80"), (&collector, "27780")] {
        assert_eq!(annotation(pod, "prometheus.io/scrape").as_deref(), Some("true"));
        assert_eq!(
            annotation(pod, "prometheus.io/port").as_deref(),
            Some(port),
            "a user's own stays"
        );
    }
    let unasked = worker_pod(&batch, &support::settings(Links::InsecureTcp), 0, 0);
    assert_eq!(annotation(&unasked, "prometheus.io/scrape"), None);
}

#[test]
fn pods_trace_as_the_operator_does() {
    let flag = "--otlp-endpoint=http://traces.example:4318/";
    let settings = Settings {
        trace_flags: vec![flag.to_owned()],
        ..settings(Links::InsecureTcp)
    };
    let batch = batch(SMALL);
    let words = |pod: Pod| {
        let container = pod.spec.unwrap().containers.remove(0);
        [container.command, container.args]
            .into_iter()
            .flatten()
            .flatten()
            .collect::<Vec<_>>()
    };
    for pod in [worker_pod(&batch, &settings, 0, 0), build(&batch, &settings).collector] {
        assert!(words(pod).iter().any(|word| word == flag));
    }
    let untraced = worker_pod(&batch, &support::settings(Links::InsecureTcp), 0, 0);
    assert!(words(untraced).iter().all(|word| !word.contains("otlp")));
}

#[test]
fn the_agent_comes_as_an_image_where_the_cluster_can() {
    let settings = Settings {
        delivery: Delivery::ImageVolume,
        ..settings(Links::InsecureTcp)
    };
    let pod = worker_pod(&batch(SMALL), &settings, 2, 1).spec.unwrap();
    assert_eq!(pod.init_containers, None, "nothing is copied");
    let volumes = pod.volumes.as_ref().unwrap();
    let image = volumes.iter().find(|volume| volume.name == AGENT_VOLUME).unwrap();
    let source = image.image.as_ref().unwrap();
    assert_eq!(source.reference.as_deref(), Some("harmony:dev"));
    assert_eq!(source.pull_policy.as_deref(), Some("IfNotPresent"));
    assert_eq!(image.empty_dir, None);
    let worker = named(&pod.containers, "worker");
    let mounts = worker.volume_mounts.as_ref().unwrap();
    let mount = mounts.iter().find(|mount| mount.name == AGENT_VOLUME).unwrap();
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/harmony", Some(true)));
    assert_eq!(worker.command.as_ref().unwrap(), &["/harmony/bin/harmony", "worker"]);
    let library = "
  completions: 1
  executor: {library: {command: [/own]}}
  template: {spec: {containers: [{name: worker, image: i}]}}
";
    let own = worker_pod(&batch(library), &settings, 0, 0).spec.unwrap();
    let volumes = own.volumes.unwrap_or_default();
    assert!(
        volumes.iter().all(|volume| volume.name != AGENT_VOLUME),
        "a program of one's own needs none"
    );
}
