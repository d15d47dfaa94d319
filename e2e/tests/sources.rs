//! Sources that have to be written down, and are read again by the next leader. A test program of its own: what others do
//! would feel the takeover.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harmony_e2e::{
    OPERATOR_NAMESPACE, Scenario, Scrape, all_right, batch, ensure_installed, eventually, kubectl, scenario,
};
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_mins(15);
const NAME: &str = "lines";

/// Bytes of a line with its end: ten million of them are more than 1 GiB.
const LINE: usize = 108;

/// Answers each line with its first word.
const FIRST_WORD: &str = "executor: {process: {command: [awk, '{ print $1; fflush() }']}}";

/// A pod that serves so many numbered lines, and its name in the cluster.
fn server(lines: u32) -> String {
    let padding = "x".repeat(LINE - "00000000 \n".len());
    format!(
        r#"---
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  volumes: [{{name: www, emptyDir: {{}}}}]
  initContainers:
    - name: write
      image: shell:dev
      command: [sh, -c, "awk 'BEGIN {{ for (i = 0; i < {lines}; i++) printf \"%08d {padding}\\n\", i }}' > /www/lines.txt"]
      securityContext: &safe {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
      volumeMounts: &mounts [{{name: www, mountPath: /www}}]
  containers:
    - name: web
      image: shell:dev
      command: [httpd, -f, -p, '8080', -h, /www]
      securityContext: *safe
      volumeMounts: *mounts
      readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"#
    )
}

/// Deletes the leader by force once a tenth is recorded. Says how much was.
async fn depose(test: &Scenario, lines: u32) -> Result<f64> {
    let (pod, succeeded) = eventually("a tenth to be recorded", WITHIN, async || {
        let (pod, scrape) = Scrape::of_leader(&test.client).await?;
        let succeeded = scrape.tasks(&test.namespace, NAME, "succeeded");
        ensure!(succeeded * 10.0 >= f64::from(lines), "{succeeded} are recorded");
        Ok((pod.name_any(), succeeded))
    })
    .await?;
    kubectl(&[
        "delete",
        "pod",
        &pod,
        "--force",
        "--grace-period=0",
        "--wait=false",
        "--namespace",
        OPERATOR_NAMESPACE,
    ])
    .await?;
    Ok(succeeded)
}

async fn goes_over_a_takeover(lines: u32) -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&server(lines)).await?;
        let wait = ["wait", "pod/web", "--for=condition=Ready", "--timeout=300s"];
        test.kubectl(&wait).await?;
        let fields = format!(
            "parallelism: 2\ntasks: {{lines: {{url: 'http://web.{}.svc/lines.txt'}}}}\n{FIRST_WORD}",
            test.namespace
        );
        let began = Instant::now();
        test.apply(&batch(NAME, &fields)).await?;
        let before = depose(test, lines).await?;
        ensure!(before < f64::from(lines), "too late for a takeover: all are recorded");
        let done = test.wait_complete(NAME, WITHIN).await?;
        println!(
            "{lines} lines of {LINE} bytes, leader deleted at {before}: {:.1?} from apply to Complete",
            began.elapsed()
        );
        let epoch = done.status.context("no status")?.epoch;
        ensure!(epoch >= Some(2), "nobody took over: epoch {epoch:?}");
        all_right(&test.results(NAME).await?, u64::from(lines), |number| {
            format!("{number:08}")
        })
    })
    .await
}

#[tokio::test]
async fn a_large_source_is_read_again_by_the_next_leader() -> Result<()> {
    goes_over_a_takeover(1_000_000).await
}

#[tokio::test]
#[ignore = "takes minutes, and some gigabytes of memory and disk"]
async fn a_gibibyte_of_ten_million_lines_is_read_again_by_the_next_leader() -> Result<()> {
    goes_over_a_takeover(10_000_000).await
}
