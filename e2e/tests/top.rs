//! `harmony top` on a cluster: how far, how healthy and when done, of a batch that runs.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_e2e::{Scenario, batch, ensure_installed, eventually, program, scenario};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// For the batch to run, and for its status to tell of it.
const WITHIN: Duration = Duration::from_secs(90);

/// Two workers; task 3 fails, task 5 takes as long as the test, and the others a third of a second.
const FIELDS: &str = "completions: 2000
parallelism: 2
slotsPerWorker: 2
backoffLimitPerIndex: 0
executor: {exec: {command: [sh, -c, 'case $HARMONY_TASK in 3) echo no frame >&2; exit 7;; 5) sleep 600;; *) sleep 0.3;; esac']}}";

/// Prints a page until it shows all of these.
async fn shows(test: &Scenario, arguments: &[&str], said: &[&str]) -> Result<String> {
    let arguments = [&["top", "--once"], arguments].concat();
    eventually(&format!("harmony {arguments:?} to show {said:?}"), WITHIN, async || {
        let page = test.harmony_prints(&arguments).await?;
        let missing: Vec<_> = said.iter().filter(|said| !page.contains(**said)).collect();
        ensure!(missing.is_empty(), "{missing:?} are missing in:\n{page}");
        Ok(page)
    })
    .await
}

/// The tasks that a page of one batch shows as settled.
fn settled(page: &str) -> Result<u64> {
    let (_, progress) = page.split_once("] ").context("no bar")?;
    let (settled, _) = progress.split_once('/').context("no progress")?;
    Ok(settled.parse()?)
}

/// On a terminal: it is drawn, and a key ends it.
async fn is_live(test: &Scenario) -> Result<()> {
    let program = program()?;
    // The terminal that `script` makes has no size.
    let top = format!(
        "stty rows 30 columns 100; '{}' top b --namespace {}",
        program.display(),
        test.namespace
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &top, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("script cannot be started: is util-linux installed?")?;
    let mut screen = terminal.stdout.take().context("no screen")?;
    let mut seen = Vec::new();
    let drawn = async {
        while !String::from_utf8_lossy(&seen).contains("Longest at workers") {
            ensure!(screen.read_buf(&mut seen).await? > 0, "it has ended");
        }
        Ok(())
    };
    let drawn = timeout(WITHIN, drawn).await.context("the page is not drawn")?;
    drawn.with_context(|| String::from_utf8_lossy(&seen).into_owned())?;
    let mut keys = terminal.stdin.take().context("no keys")?;
    keys.write_all(b"q").await?;
    let rest = async {
        screen.read_to_end(&mut seen).await?;
        Ok::<_, anyhow::Error>(terminal.wait().await?)
    };
    let ended = timeout(WITHIN, rest).await.context("it does not end")??;
    ensure!(ended.success(), "{ended}: {}", String::from_utf8_lossy(&seen));
    Ok(())
}

#[tokio::test]
async fn a_page_tells_how_far_how_healthy_and_when_done() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&batch("b", FIELDS)).await?;
        let said = [
            &format!("b in namespace {}", test.namespace),
            "/2000 (",
            "/s   done in about ",
            "2 of 2 workers ready",
            "1 failed, ",
            "b is running",
            "Workers (2 of 2 ready)",
            "Longest at workers",
            "task 5 ",
            "Failures",
            "ExitCode 7",
            "no frame",
        ];
        let page = shows(test, &["b"], &said).await?;
        println!("{page}");
        let (before, done) = (settled(&page)?, "b's page to go on");
        eventually(done, WITHIN, async || {
            let page = test.harmony_prints(&["top", "--once", "b"]).await?;
            ensure!(settled(&page)? > before, "{page}");
            Ok(())
        })
        .await?;
        shows(test, &[], &["1 batch", "NAME", "ETA", "b ", "Running", "2 of 2"]).await?;
        is_live(test).await
    })
    .await
}
