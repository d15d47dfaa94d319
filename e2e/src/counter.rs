//! Counts how often each task of a batch is begun, also where its worker is killed: the task tells a web server first.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::Scenario;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  nodeName: NODE
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: counter
      image: shell:dev
      command: [httpd, -f, -vv, -p, '8080']
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
";

/// What a task's number follows in the log.
const MARK: &str = "url:/run/";

/// What was recorded at a moment, and how often each of those tasks had been begun.
pub struct Mark(BTreeMap<u64, u32>);

/// A web server that writes down what it is asked for.
pub struct Counter {
    ip: String,
}

impl Counter {
    /// Starts it in the test's namespace.
    pub async fn start(test: &Scenario) -> Result<Self> {
        Self::start_on(test, "").await
    }

    /// Starts it on a node.
    pub async fn start_on(test: &Scenario, node: &str) -> Result<Self> {
        test.apply(&POD.replace("NODE", node)).await?;
        let pod = test.wait_for_ready("counter").await?;
        let ip = pod.status.and_then(|status| status.pod_ip);
        Ok(Self {
            ip: ip.context("a pod without an address")?,
        })
    }

    /// The executor whose tasks tell their number here, take so long, and print twice their number.
    pub fn executor(&self, seconds: &str) -> String {
        format!(
            "executor: {{exec: {{command: [sh, -c, 'wget -q -O /dev/null http://{}:8080/run/$HARMONY_TASK \
             2>/dev/null; sleep {seconds}; echo $((HARMONY_TASK * 2))']}}}}",
            self.ip
        )
    }

    /// How often each number was begun.
    pub async fn runs(&self, test: &Scenario) -> Result<BTreeMap<u64, u32>> {
        let log = test.kubectl(&["logs", "counter"]).await?;
        let mut runs = BTreeMap::new();
        for told in log.lines().filter_map(|line| line.split_once(MARK)) {
            let number = told.1.trim().parse().with_context(|| format!("no number: {told:?}"))?;
            *runs.entry(number).or_default() += 1;
        }
        Ok(runs)
    }

    /// What is recorded of a batch now.
    pub async fn mark(&self, test: &Scenario, batch: &str) -> Result<Mark> {
        let recorded = test.results(batch).await?;
        let runs = self.runs(test).await?;
        let begun = |number: u64| (number, runs.get(&number).copied().unwrap_or_default());
        Ok(Mark(recorded.iter().map(|line| begun(line.number)).collect()))
    }

    /// Whatever was recorded then was not begun again since.
    pub async fn none_again(&self, test: &Scenario, mark: &Mark) -> Result<()> {
        let runs = self.runs(test).await?;
        let again: Vec<_> = mark
            .0
            .iter()
            .filter(|(number, before)| runs.get(number) != Some(before))
            .collect();
        ensure!(again.is_empty(), "recorded and yet begun again: {again:?}");
        println!(
            "{} tasks were recorded before and not begun again; {} runs of {} tasks in all",
            mark.0.len(),
            runs.values().sum::<u32>(),
            runs.len()
        );
        Ok(())
    }
}
