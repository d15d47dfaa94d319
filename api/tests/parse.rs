//! What files mean, and what is said about wrong ones.

#![allow(clippy::unwrap_used)] // helpers of tests fail by it

use std::path::PathBuf;
use std::time::Duration;

use harmony_api::{Executor, InvalidBatch, Tasks, ValidatedBatch, parse};

const HEAD: &str = "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {name: b}\n";
const EXEC: &str = "  executor: {exec: {command: [cat]}}\n";

#[track_caller]
fn valid(spec: &str) -> ValidatedBatch {
    parse(&format!("{HEAD}spec:\n{spec}"), "b.yaml").unwrap()
}

#[track_caller]
fn refused(yaml: &str) -> InvalidBatch {
    parse(yaml, "b.yaml").unwrap_err()
}

/// Cases of a spec below `HEAD` (its first line is line 5) and what is said about it.
fn assert_refused(cases: &[(&str, &str)]) {
    for (spec, message) in cases {
        assert_eq!(
            refused(&format!("{HEAD}spec:\n{spec}")).to_string(),
            *message,
            "for\n{spec}"
        );
    }
}

#[test]
fn the_example_of_the_documentation_is_read() {
    let batch = parse(
        r#"
apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {name: checksums}
spec:
  completions: 100          # may be left out where the source tells it
  parallelism: 2            # workers
  tasks: {lines: {path: files.txt}}
  executor: {exec: {command: [sh, -c, "sha256sum $(cat)"]}}
"#,
        "batch.yaml",
    )
    .unwrap();
    assert_eq!(batch.name.as_str(), "checksums");
    assert_eq!(batch.completions, Some(100));
    assert_eq!(batch.parallelism, 2);
    assert_eq!(batch.tasks, Tasks::Path(PathBuf::from("files.txt")));
    let Executor::Exec(command) = &batch.executor else {
        panic!("{:?}", batch.executor)
    };
    assert_eq!(command.to_vec(), ["sh", "-c", "sha256sum $(cat)"]);
    assert!(batch.ignored.is_empty());
}

#[test]
fn defaults_are_filled_in() {
    let batch = valid(&format!("  completions: 3\n{EXEC}"));
    assert_eq!(
        (batch.parallelism, batch.slots_per_worker, batch.backoff_limit_per_index),
        (1, 1, 3)
    );
    assert_eq!(batch.max_bytes_per_task, 16 << 20);
    assert_eq!(
        (
            batch.max_failed_indexes,
            batch.active_deadline,
            batch.active_deadline_per_index
        ),
        (None, None, None)
    );
    assert_eq!(batch.tasks, Tasks::Range);
}

#[test]
fn every_field_is_taken_over() {
    let batch = valid(
        "  completions: 2\n  parallelism: 4\n  slotsPerWorker: 5\n  backoffLimitPerIndex: 0\n  maxFailedIndexes: 6\n  \
         activeDeadlineSeconds: 7\n  activeDeadlineSecondsPerIndex: 8\n  results: {maxBytesPerTask: 1Ki}\n  \
         tasks: {items: [a, '2']}\n  executor: {process: {command: [tr, a-z, A-Z], framing: lines}}\n",
    );
    assert_eq!(batch.completions, Some(2));
    assert_eq!(
        (batch.parallelism, batch.slots_per_worker, batch.backoff_limit_per_index),
        (4, 5, 0)
    );
    assert_eq!(batch.max_failed_indexes, Some(6));
    assert_eq!(batch.active_deadline, Some(Duration::from_secs(7)));
    assert_eq!(batch.active_deadline_per_index, Some(Duration::from_secs(8)));
    assert_eq!(batch.max_bytes_per_task, 1_024);
    assert_eq!(batch.tasks, Tasks::Items(vec!["a".into(), "2".into()]));
    assert!(matches!(&batch.executor, Executor::Process { command, .. } if command.program == "tr"));
}

#[test]
fn the_other_sources_and_executors_are_read() {
    let batch = valid(
        "  results: {maxBytesPerTask: 5}\n  tasks: {lines: {url: 'https://example.org/a?b=c'}}\n  \
         executor: {library: {command: [./worker]}}\n",
    );
    assert_eq!(batch.max_bytes_per_task, 5);
    assert!(matches!(&batch.tasks, Tasks::Url(url) if url.as_str() == "https://example.org/a?b=c"));
    assert!(matches!(&batch.executor, Executor::Library(command) if command.arguments.is_empty()));
    assert_eq!(
        valid(&format!("  completions: 0\n  tasks: {{range: {{}}}}\n{EXEC}")).completions,
        Some(0)
    );
    assert_eq!(
        valid(&format!("  tasks: {{items: []}}\n{EXEC}")).tasks,
        Tasks::Items(vec![])
    );
}

#[test]
fn a_field_without_a_value_is_as_if_it_were_not_there() {
    let batch = valid(&format!(
        "  completions: 1\n  maxFailedIndexes:\n  results: {{maxBytesPerTask: }}\n{EXEC}"
    ));
    assert_eq!(batch.max_failed_indexes, None);
    assert_eq!(batch.max_bytes_per_task, 16 << 20);
}

#[test]
fn fields_for_kubernetes_are_taken_and_named() {
    let yaml = format!(
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\n\
         metadata: {{name: b, namespace: team, labels: {{a: b}}, annotations: {{c: d}}}}\n\
         spec:\n  completions: 1\n{EXEC}  template: {{spec: {{containers: [{{name: worker, image: i}}]}}}}\n  \
         collector: {{storage: {{size: 1Gi}}}}\n  suspend: false\n  ttlSecondsAfterFinished: 60\n  progressDeadlineSeconds: 60\n  managedBy: kueue\n  \
         backoffLimit: 6\n  podFailurePolicy: {{rules: [{{action: Ignore, onPodConditions: [{{type: A}}]}}]}}\n  \
         completionMode: Indexed\n"
    );
    assert_eq!(
        parse(&yaml, "b.yaml").unwrap().ignored,
        [
            "metadata.namespace",
            "metadata.labels",
            "metadata.annotations",
            "spec.template",
            "spec.collector",
            "spec.suspend",
            "spec.ttlSecondsAfterFinished",
            "spec.progressDeadlineSeconds",
            "spec.backoffLimit",
            "spec.podFailurePolicy",
            "spec.managedBy",
            "spec.completionMode",
        ]
    );
}

#[test]
fn an_action_of_jobs_alone_is_refused_with_those_there_are() {
    let yaml = format!(
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{name: b}}\nspec:\n  completions: 1\n{EXEC}  \
         podFailurePolicy: {{rules: [{{action: FailIndex, onExitCodes: {{operator: In, values: [1]}}}}]}}\n"
    );
    let said = refused(&yaml).to_string();
    let expected = "found \"FailIndex\", expected \"FailBatch\" or \"Ignore\" or \"Count\"";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    assert_refused(&[
        (
            &format!("{EXEC}  tasks:\n    lines:\n      path: 42\n"),
            "b.yaml:8:13: spec.tasks.lines.path: found 42, expected a path (a string)",
        ),
        (
            &format!("  completions: many\n{EXEC}"),
            "b.yaml:5:16: spec.completions: found \"many\", expected an integer from 0 to 1000000000000",
        ),
        (
            &format!("  completions: 1.5\n{EXEC}"),
            "b.yaml:5:16: spec.completions: found 1.5, expected an integer from 0 to 1000000000000",
        ),
        (
            &format!("  completions: 1\n  parallelism: [1]\n{EXEC}"),
            "b.yaml:6:16: spec.parallelism: found a list, expected an integer from 0 to 4000",
        ),
        (
            &format!("  tasks: {{items: [a, 7, yes]}}\n{EXEC}"),
            "b.yaml:5:22: spec.tasks.items[1]: found 7, expected a string\n\
             b.yaml:5:25: spec.tasks.items[2]: found the boolean true, expected a string; quotes make it one",
        ),
        (
            &format!("  tasks: {{range: }}\n  completions: 1\n{EXEC}"),
            "b.yaml:5:16: spec.tasks.range: found null, expected a mapping",
        ),
        (
            "  completions: 1\n  executor: cat\n",
            "b.yaml:6:13: spec.executor: found \"cat\", expected exactly one of exec, process, library",
        ),
        (
            "  completions: 1\n  executor: {exec: {command: cat}}\n",
            "b.yaml:6:30: spec.executor.exec.command: found \"cat\", expected a list",
        ),
        (
            "  completions: 1\n  executor: {process: {command: [cat], framing: frames}}\n",
            "b.yaml:6:49: spec.executor.process.framing: found \"frames\", expected \"lines\"",
        ),
        (
            &format!("  completions: 1\n  suspend: 1\n  completionMode: NonIndexed\n{EXEC}"),
            "b.yaml:6:12: spec.suspend: found 1, expected true or false\n\
             b.yaml:7:19: spec.completionMode: found \"NonIndexed\", expected \"Indexed\"",
        ),
        (
            &format!("  completions: 1\n  results: {{maxBytesPerTask: [1]}}\n{EXEC}"),
            "b.yaml:6:30: spec.results.maxBytesPerTask: found a list, expected bytes such as 16Mi",
        ),
    ]);
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    assert_refused(&[
        (
            &format!("  completions: -1\n{EXEC}"),
            "b.yaml:5:16: spec.completions: found -1, expected an integer from 0 to 1000000000000",
        ),
        (
            &format!("  completions: 1\n  parallelism: 0\n  slotsPerWorker: 5000\n{EXEC}"),
            "b.yaml:7:19: spec.slotsPerWorker: found 5000, expected an integer from 1 to 1024",
        ),
        (
            &format!("  completions: 1\n  activeDeadlineSeconds: 0\n{EXEC}"),
            "b.yaml:6:26: spec.activeDeadlineSeconds: found 0, expected an integer from 1 to 315360000",
        ),
        (
            &format!("  completions: 1\n  results: {{maxBytesPerTask: 1025Mi}}\n{EXEC}"),
            "b.yaml:6:30: spec.results.maxBytesPerTask: found \"1025Mi\", expected 1 to 1073741824 bytes, such as 16Mi; at most 1024Mi",
        ),
        (
            &format!("  completions: 1\n  results: {{maxBytesPerTask: 0}}\n{EXEC}"),
            "b.yaml:6:30: spec.results.maxBytesPerTask: found 0, expected 1 to 1073741824 bytes, such as 16Mi; at most 1024Mi",
        ),
        (
            "  completions: 1\n  results: {maxBytesPerTask: 65Mi}\n  executor: {process: {command: [cat], framing: lines}}\n",
            "b.yaml:6:30: spec.results.maxBytesPerTask: found \"65Mi\", expected 1 to 67108864 bytes, such as 16Mi; at most 64Mi with executor.process, which holds an answer in memory",
        ),
        (
            "  completions: 1\n  executor: {exec: {command: []}}\n",
            "b.yaml:6:30: spec.executor.exec.command: found 0 entries, expected 1 to 1024",
        ),
        (
            &format!("  tasks: {{lines: {{path: ''}}}}\n{EXEC}"),
            "b.yaml:5:25: spec.tasks.lines.path: is empty, expected a path (a string)",
        ),
        (
            &format!("  tasks: {{lines: {{path: {}}}}}\n{EXEC}", "x".repeat(4_097)),
            "b.yaml:5:25: spec.tasks.lines.path: found 4097 characters, expected at most 4096",
        ),
    ]);
}

#[test]
fn unknown_fields_are_refused_with_the_known_ones() {
    assert_refused(&[
        (
            &format!("  tasks: {{line: {{path: a}}}}\n{EXEC}"),
            "b.yaml:5:11: spec.tasks.line: unknown field, did you mean lines? Allowed here: configMapRef, items, lines, range",
        ),
        (
            &format!("  completions: 1\n  results: {{zzz: 1}}\n{EXEC}"),
            "b.yaml:6:13: spec.results.zzz: unknown field. Allowed here: maxBytesPerTask",
        ),
        (
            &format!("  completions: 1\n  tasks: {{range: {{from: 1}}}}\n{EXEC}"),
            "b.yaml:6:19: spec.tasks.range.from: unknown field; none is allowed here",
        ),
    ]);
    let invalid = refused(&format!("{HEAD}spec:\n  completions: 1\n  paralelism: 2\n{EXEC}"));
    let message = invalid.to_string();
    let start =
        "b.yaml:6:3: spec.paralelism: unknown field, did you mean parallelism? Allowed here: activeDeadlineSeconds, ";
    assert!(message.starts_with(start), "{message}");
    let invalid = refused(&format!("{HEAD}spec:\n  completions: 1\n{EXEC}status: {{}}\n"));
    let message = "b.yaml:7:1: status: unknown field. Allowed here: apiVersion, kind, metadata, spec";
    assert_eq!(invalid.to_string(), message);
}

#[test]
fn what_contradicts_itself_is_refused() {
    assert_refused(&[
        (
            &format!("  tasks: {{range: {{}}, items: [a]}}\n{EXEC}"),
            "b.yaml:5:10: spec.tasks: found range and items, expected exactly one of range, items, lines, configMapRef",
        ),
        (
            &format!("  tasks: {{}}\n{EXEC}"),
            "b.yaml:5:10: spec.tasks: found none, expected exactly one of range, items, lines, configMapRef",
        ),
        (
            "  completions: 1\n",
            "b.yaml:5:3: spec.executor: missing, expected exactly one of exec, process, library",
        ),
        (
            EXEC,
            "b.yaml:5:3: spec.completions: missing; tasks.range needs it, since nothing else says how many tasks there are",
        ),
        (
            &format!("  completions: 3\n  tasks: {{items: [a, b]}}\n{EXEC}"),
            "b.yaml:5:16: spec.completions: found 3, but spec.tasks.items holds 2; make them equal, or leave completions out",
        ),
    ]);
}

#[test]
fn what_no_schema_can_say_is_checked_too() {
    assert_refused(&[
        (
            &format!("  tasks: {{lines: {{path: '-'}}}}\n{EXEC}"),
            "b.yaml:5:25: spec.tasks.lines.path: found \"-\", expected a path; /dev/stdin reads the standard input",
        ),
        (
            &format!("  tasks: {{lines: {{url: 'file:///etc/passwd'}}}}\n{EXEC}"),
            "b.yaml:5:24: spec.tasks.lines.url: found \"file:///etc/passwd\", expected http:// or https://; for a file use tasks.lines.path",
        ),
        (
            &format!("  tasks: {{lines: {{url: 'ftp://a/b'}}}}\n{EXEC}"),
            "b.yaml:5:24: spec.tasks.lines.url: found \"ftp://a/b\", expected http:// or https://",
        ),
        (
            &format!("  tasks: {{lines: {{url: files.txt}}}}\n{EXEC}"),
            "b.yaml:5:24: spec.tasks.lines.url: found \"files.txt\", expected a URL: relative URL without a base",
        ),
        (
            "  completions: 1\n  executor: {exec: {command: ['', x]}}\n",
            "b.yaml:6:30: spec.executor.exec.command: names no program; the first entry is the program to run",
        ),
        (
            "  completions: 1\n  executor: {exec: {command: [a, \"b\\0\"]}}\n",
            "b.yaml:6:34: spec.executor.exec.command[1]: holds a zero byte, which no program can be given",
        ),
    ]);
}

#[test]
fn names_are_checked() {
    for name in ["''", "Upper", "a_b", "-a", "a-", "a..b", "../x", "a/b"] {
        let yaml = format!(
            "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{name: {name}}}\nspec:\n  completions: 1\n{EXEC}"
        );
        let message = refused(&yaml).to_string();
        assert!(message.starts_with("b.yaml:3:18: metadata.name: found "), "{message}");
        assert!(message.contains("lowercase letters, digits, - and ."), "{message}");
    }
    let unnamed = format!(
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{}}\nspec:\n  completions: 1\n{EXEC}"
    );
    assert_eq!(
        refused(&unnamed).to_string(),
        "b.yaml:3:11: metadata.name: missing, expected a name (a string)"
    );
}

#[test]
fn a_file_of_another_kind_is_refused_for_that_alone() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: a}\nspec: {foo: 1}\n";
    assert_eq!(
        refused(job).to_string(),
        "b.yaml:1:13: apiVersion: found \"batch/v1\", expected \"harmony.dev/v1alpha1\"\n\
         b.yaml:2:7: kind: found \"Job\", expected \"HarmonyBatch\""
    );
    assert_eq!(
        refused("kind: HarmonyBatch\n").to_string(),
        "b.yaml:1:1: apiVersion: missing, expected \"harmony.dev/v1alpha1\""
    );
}

#[test]
fn files_that_hold_no_single_document_are_refused() {
    let one = format!("{HEAD}spec:\n  completions: 1\n{EXEC}");
    assert_eq!(
        refused(&format!("{one}---\n{one}")).to_string(),
        "b.yaml:8:1: holds more than one document; write each batch into a file of its own"
    );
    assert_eq!(refused("").to_string(), "b.yaml:1:1: is empty, expected a HarmonyBatch");
    assert_eq!(
        refused("# only a comment\n").to_string(),
        "b.yaml:1:1: is empty, expected a HarmonyBatch"
    );
    assert_eq!(
        refused("- a\n").to_string(),
        "b.yaml:1:1: found a list, expected a mapping"
    );
    assert_eq!(
        refused(&format!("{HEAD}spec:\n  completions: 1\n  completions: 2\n{EXEC}")).to_string(),
        "b.yaml:6:3: the field completions is there twice"
    );
    let broken = refused("a: [1, 2\nb: 3\n").to_string();
    assert!(broken.starts_with("b.yaml:2:"), "{broken}");
    let large = format!("{one}# {}\n", "x".repeat(1_572_864));
    assert!(refused(&large).to_string().contains("expected at most 1572864"));
}

#[test]
fn all_problems_are_named_at_once_in_the_order_of_the_file() {
    let invalid = refused(
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {nme: b}\nspec:\n  parallelism: none\n  completions: x\n",
    );
    let paths: Vec<_> = invalid
        .problems
        .iter()
        .map(|problem| problem.path.to_string())
        .collect();
    assert_eq!(
        paths,
        ["metadata.name", "metadata.nme", "spec.parallelism", "spec.completions"]
    );

    let many = format!(
        "{HEAD}spec:\n  completions: 1\n  tasks: {{items: [{}]}}\n{EXEC}",
        "1, ".repeat(60)
    );
    let invalid = refused(&many);
    assert_eq!((invalid.problems.len(), invalid.omitted), (50, 10));
    assert!(invalid.to_string().ends_with("\nb.yaml: and 10 more problems"));
}

#[test]
fn a_file_that_is_nested_too_deep_is_refused_before_it_takes_the_stack() {
    for levels in [17, 64, 100_000] {
        let lists = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let mappings = format!("{}1{}", "{a: ".repeat(levels), "}".repeat(levels));
        for yaml in [lists, mappings] {
            let place = refused(&yaml).problems[0].place;
            assert_eq!(place.line, 1, "{levels} levels");
        }
    }
}

const CONTAINER: &str =
    "  completions: 1\n  executor: {exec: {}}\n  template: {spec: {containers: [{name: first}, {name: worker, ";

#[test]
fn a_laptop_runs_the_containers_own_command() {
    let batch = valid(&format!(
        "{CONTAINER}command: [sh, -c], args: ['sha256sum $(cat) $$']}}]}}}}\n"
    ));
    let Executor::Exec(command) = &batch.executor else {
        panic!("{:?}", batch.executor)
    };
    assert_eq!(command.to_vec(), ["sh", "-c", "sha256sum $(cat) $"]);
    assert_eq!(batch.ignored, ["spec.template"]);
    assert_refused(&[
        (
            &format!("{CONTAINER}command: [a, $(B)], env: [{{name: B, value: c}}]}}]}}}}\n"),
            "b.yaml:7:73: spec.template.spec.containers[1].command: uses $(B), a variable that only Kubernetes sets; \
             name a command without it in spec.executor.exec.command",
        ),
        (
            &format!("{CONTAINER}image: i}}]}}}}\n"),
            "b.yaml:7:49: spec.template.spec.containers[1].command: missing; without a command in spec.executor each \
             task runs this one, and what the image starts by itself is not known: add it here, or name a command in \
             spec.executor.exec",
        ),
        (
            "  completions: 1\n  executor: {exec: {}}\n",
            "b.yaml:6:20: spec.executor.exec.command: missing; name the program to run",
        ),
    ]);
}

#[test]
fn what_a_laptop_does_not_have_is_refused_with_the_way_out() {
    assert_refused(&[
        (
            &format!("  tasks: {{configMapRef: {{name: a, key: b}}}}\n{EXEC}"),
            "b.yaml:5:25: spec.tasks.configMapRef: found the ConfigMap \"a\", which only Kubernetes has; write the lines \
             into a file and use tasks.lines.path",
        ),
        (
            &format!("  completions: 1\n  parallelism: 0\n{EXEC}"),
            "b.yaml:6:16: spec.parallelism: found 0, expected 1 to 4000: here nothing runs without workers, only \
             Kubernetes can raise it later",
        ),
        (
            &format!("  completions: 1\n  template: {{spec: {{containers: [{{name: a, imag: b}}]}}}}\n{EXEC}"),
            "b.yaml:6:44: spec.template.spec.containers[0].imag: unknown field, did you mean image? Allowed here: args, \
             command, env, envFrom, image, imagePullPolicy, lifecycle, livenessProbe, name, ports, readinessProbe, \
             resizePolicy, resources, restartPolicy, securityContext, startupProbe, stdin, stdinOnce, \
             terminationMessagePath, terminationMessagePolicy, tty, volumeDevices, volumeMounts, workingDir",
        ),
    ]);
}

/// The deepest that a pod template goes, so that no file that Kubernetes takes is refused for its depth.
#[test]
fn a_deep_pod_template_is_read() {
    valid(&format!(
        "  completions: 1\n{EXEC}  template:\n    spec:\n      containers: [{{name: a}}]\n      affinity:\n        \
         podAffinity:\n          preferredDuringSchedulingIgnoredDuringExecution:\n          - weight: 1\n            \
         podAffinityTerm:\n              topologyKey: a\n              labelSelector:\n                \
         matchExpressions: [{{key: a, operator: In, values: [b]}}]\n      volumes:\n      - name: v\n        \
         ephemeral: {{volumeClaimTemplate: {{spec: {{selector: {{matchExpressions: [{{key: a, operator: In, \
         values: [b]}}]}}}}}}}}\n"
    ));
}
