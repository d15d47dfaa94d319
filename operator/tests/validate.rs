//! What is refused before anything is made, and with which words.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by them

mod support;

use harmony_api::Tasks;
use harmony_operator::reconcile::dereference::Dereferenced;
use harmony_operator::reconcile::validate::{Error, validate};

use self::support::{SMALL, filter, refused, resource};

#[test]
fn each_obstacle_in_a_template_is_named_with_the_way_out() {
    let pod = "spec.template.spec";
    let cases = [
        (
            "[{name: worker, image: i}], restartPolicy: OnFailure",
            format!(
                "{pod}.restartPolicy: found \"OnFailure\", expected Never: a worker that ends is replaced by a new pod; set Never, or leave it out"
            ),
        ),
        (
            "[{name: worker, image: i}], os: {name: windows}",
            format!("{pod}.os.name: found \"windows\", expected linux: the agent is a Linux program; leave it out"),
        ),
        (
            "[{name: worker, image: i}, {name: harmony-agent, image: i}]",
            format!("{pod}.containers: found the name \"harmony-agent\", which is Harmony's own; rename it"),
        ),
        (
            "[{name: worker, image: i}], initContainers: [{name: harmony-agent, image: i}]",
            format!("{pod}.initContainers: found the name \"harmony-agent\", which is Harmony's own; rename it"),
        ),
        (
            "[{name: worker, image: i}], volumes: [{name: harmony-tls, emptyDir: {}}]",
            format!("{pod}.volumes: found the name \"harmony-tls\", which is Harmony's own; rename it"),
        ),
        (
            "[{name: a, image: i}, {name: worker, image: i, volumeMounts: [{name: v, mountPath: /harmony/x}]}]",
            format!(
                "{pod}.containers[1].volumeMounts: found the path \"/harmony/x\", but /harmony is Harmony's own; choose another"
            ),
        ),
        (
            "[{name: worker, image: i}, {name: b, image: i, ports: [{name: metrics, containerPort: 80}]}]",
            format!(
                "{pod}.containers: found port 80 with the name \"metrics\", but 27700 (harmony) and 27780 (metrics) are Harmony's own; choose another"
            ),
        ),
        (
            "[{name: worker, image: i, ports: [{containerPort: 27700}]}]",
            format!(
                "{pod}.containers: found port 27700 with the name \"\", but 27700 (harmony) and 27780 (metrics) are Harmony's own; choose another"
            ),
        ),
    ];
    for (containers, problem) in cases {
        assert_eq!(refused(&filter(containers)), [problem], "{containers}");
    }
}

#[test]
fn what_looks_like_an_obstacle_and_is_none_is_taken() {
    for containers in [
        "[{name: worker, image: i}], restartPolicy: Never, os: {name: linux}",
        "[{name: worker, image: i, volumeMounts: [{name: v, mountPath: /harmony-data}]}]",
        "[{name: worker, image: i}, {name: b, image: i, volumeMounts: [{name: v, mountPath: /harmony}]}]",
        "[{name: worker, image: i, ports: [{name: web, containerPort: 8080}]}]",
    ] {
        validate(&resource("render", &filter(containers)), Dereferenced::default()).unwrap();
    }
}

#[test]
fn labels_of_harmony_are_its_own() {
    let spec = "
  completions: 1
  executor: {process: {command: [cat]}}
  template:
    metadata: {labels: {harmony.dev/role: collector}, annotations: {harmony.dev/x: y}}
    spec: {containers: [{name: worker, image: i}]}
";
    let own = "but harmony.dev/ is Harmony's own; choose another prefix";
    let expected = [
        format!("spec.template.metadata.labels: found \"harmony.dev/role\", {own}"),
        format!("spec.template.metadata.annotations: found \"harmony.dev/x\", {own}"),
    ];
    assert_eq!(refused(spec), expected);
}

#[test]
fn problems_of_the_spec_and_of_the_template_come_in_one_message() {
    let spec = "
  executor: {process: {command: [cat]}}
  template: {spec: {restartPolicy: Always, containers: [{name: worker, image: i}]}}
";
    let error = validate(&resource("render", spec), Dereferenced::default()).unwrap_err();
    assert_eq!(error.reason(), "InvalidSpec");
    let message = error.to_string();
    assert!(message.starts_with("spec.completions: missing"), "{message}");
    assert!(
        message.contains("; spec.template.spec.restartPolicy: found \"Always\""),
        "{message}"
    );
}

#[test]
fn a_message_is_cut_to_what_a_condition_holds() {
    let ports: Vec<_> = (0..200).map(|_| "{containerPort: 27700}").collect();
    let spec = filter(&format!("[{{name: worker, image: i, ports: [{}]}}]", ports.join(", ")));
    let error = validate(&resource("render", &spec), Dereferenced::default()).unwrap_err();
    let message = error.to_string();
    assert!((4_000..4_200).contains(&message.len()), "{}", message.len());
    assert!(message.ends_with('…'), "{message}");
}

#[test]
fn a_command_that_no_argument_can_hold_is_refused() {
    // Each backslash takes two bytes in JSON.
    let argument = "\\".repeat(30_000);
    let spec = format!(
        "
  completions: 1
  executor: {{process: {{command: [cat, '{argument}', '{argument}', '{argument}']}}}}
  template: {{spec: {{containers: [{{name: worker, image: i}}]}}}}
"
    );
    let problems = refused(&spec);
    let expected = "spec.executor: found a command of 180058 bytes as JSON, expected at most 131071, the longest argument of a program on Linux; put scripts into the image or a ConfigMap";
    assert_eq!(problems, [expected]);
}

#[test]
fn the_text_of_a_config_map_takes_its_place() {
    let spec =
        format!("{SMALL}  tasks: {{configMapRef: {{name: frames, key: list}}}}\n").replace("  completions: 10\n", "");
    let dereferenced = Dereferenced {
        tasks: Some("a\nb\n".to_owned()),
        ..Dereferenced::default()
    };
    let batch = validate(&resource("render", &spec), dereferenced).unwrap();
    let expected = Tasks::Text {
        origin: "the key list of the ConfigMap frames".to_owned(),
        text: "a\nb\n".to_owned(),
    };
    assert_eq!(batch.spec.tasks, expected);
}

#[test]
fn an_object_from_no_api_server_is_refused() {
    let mut resource = resource("render", SMALL);
    resource.metadata.uid = None;
    assert_eq!(
        validate(&resource, Dereferenced::default()),
        Err(Error::Metadata("uid"))
    );
}
