//! The operator and the definition can be removed at any time: nothing hangs, nothing stays, and they can come back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harmony_api::conventions::BATCH_LABEL;
use harmony_e2e::{all_right, batch, eventually, install, kubectl, scenario, uninstall};

/// For a namespace, and all in it, to go on a busy machine.
const GONE_WITHIN: Duration = Duration::from_mins(2);
const COMPLETE_WITHIN: Duration = Duration::from_mins(2);

#[tokio::test]
async fn all_goes_when_harmony_is_removed_in_mid_batch_and_comes_back_when_it_is_installed_again() -> Result<()> {
    install().await?;
    scenario(async |test| {
        let long = "completions: 1000\nparallelism: 2\nexecutor: {exec: {command: [sleep, '1']}}";
        test.apply(&batch("long", long)).await?;
        test.kubectl(&[
            "wait",
            "hb/long",
            "--for=jsonpath={.status.state}=Running",
            "--timeout=60s",
        ])
        .await?;
        let begun = Instant::now();
        uninstall().await?;
        println!("removed after {:.1} s", begun.elapsed().as_secs_f64());
        kubectl(&["delete", "namespace", &test.namespace, "--timeout=120s"]).await?;
        eventually("no pod of a batch to stay", GONE_WITHIN, async || {
            let left = kubectl(&[
                "get",
                "pods",
                "--all-namespaces",
                "--selector",
                BATCH_LABEL,
                "--output=name",
            ])
            .await?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })
        .await?;
        println!("all gone after {:.1} s", begun.elapsed().as_secs_f64());
        Ok(())
    })
    .await?;
    install().await?;
    scenario(async |test| {
        let short = "completions: 4\nexecutor: {exec: {command: [sh, -c, 'echo $HARMONY_TASK']}}";
        test.apply(&batch("short", short)).await?;
        test.wait_complete("short", COMPLETE_WITHIN).await?;
        all_right(&test.results("short").await?, 4, |number| format!("{number}\n"))
    })
    .await
}
