//! The examples for clusters, applied as they are but for the registry's image, which this cluster has under another name.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::COMPLETE;
use harmony_e2e::{ensure_installed, scenario};

const WITHIN: Duration = Duration::from_mins(3);

/// The image that the examples name, and the same shell where no registry is.
const IMAGES: (&str, &str) = ("busybox:1.37", "shell:dev");

async fn expect(name: &str, answers: Vec<String>) -> Result<()> {
    ensure_installed().await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/kubernetes/{name}.yaml"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    ensure!(text.contains(IMAGES.0), "{name} runs another image than {}", IMAGES.0);
    scenario(async |test| {
        test.apply(&text.replace(IMAGES.0, IMAGES.1)).await?;
        test.wait_for_condition(name, COMPLETE, WITHIN).await?;
        let outputs: Vec<_> = test.results(name).await?.into_iter().map(|line| line.output).collect();
        ensure!(outputs == answers, "{outputs:?} instead of {answers:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_process_per_task_squares_numbers() -> Result<()> {
    expect(
        "squares",
        (0..1000_u32).map(|number| format!("{}\n", number * number)).collect(),
    )
    .await
}

#[tokio::test]
async fn a_warm_filter_takes_the_lines_of_a_config_map() -> Result<()> {
    expect("filter", ["ALPHA", "BETA", "GAMMA", "DELTA"].map(str::to_owned).into()).await
}

#[tokio::test]
async fn the_image_of_an_indexed_job_runs_as_it_is() -> Result<()> {
    expect("indexed", (0..20).map(|number| format!("item {number}\n")).collect()).await
}
