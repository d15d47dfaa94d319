//! The Helm chart: what is written from it, and Helm's own opinion of it.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::cluster;
use crate::context::{Context, output, succeed, works};
use crate::step::Outcome;

/// The chart, from the checkout.
const CHART: &str = "charts/harmony";
/// The same for those without Helm.
const DEPLOY: &str = "deploy/harmony.yaml";
/// The values that the chart is tried with beside its own. What it makes of `NAME-values.yaml` is `NAME.yaml` beside it.
const VALUES: &str = "-values.yaml";
/// What is between two documents.
const SEPARATOR: &str = "\n---\n";
/// Helm says before each document which template it is from.
const SOURCE: &str = "# Source: ";
/// Helm makes the namespace by a flag, not from the chart.
const NAMESPACE: &str = "\
# All of Harmony in a cluster: kubectl apply -f deploy/harmony.yaml
# This is what the chart in charts/harmony renders; `cargo xtask chart` writes it.
apiVersion: v1
kind: Namespace
metadata:
  name: harmony-system
  labels:
    app.kubernetes.io/name: harmony
    pod-security.kubernetes.io/enforce: restricted";

/// Writes what is made from the chart: the file for kubectl, what other values give, and the table of values.
pub(crate) fn write(context: &Context) -> Result<ExitCode> {
    let context = cluster::with_clients(context)?;
    for (path, text) in made(&context)? {
        fs::write(context.root.join(&path), text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{} is what the chart says", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets Helm judge the chart, and sees that what is made from it is up to date.
pub(crate) fn check(context: &Context) -> Result<Outcome> {
    if !works(context.command("helm").arg("version")) && !works(context.command("go").arg("version")) {
        return Ok(Outcome::Skipped(
            "neither Helm is here nor Go, which builds it".to_owned(),
        ));
    }
    let context = cluster::with_clients(context)?;
    for values in others(&context.root)? {
        let mut lint = context.command("helm");
        succeed(lint.args(["lint", "--strict", CHART, "--values"]).arg(values))?;
    }
    succeed(context.command("helm").args(["lint", "--strict", CHART]))?;
    for (path, text) in made(&context)? {
        let held = fs::read_to_string(context.root.join(&path)).unwrap_or_default();
        if held != text {
            bail!(
                "{} is not what the chart says: `cargo xtask chart` writes it",
                path.display()
            );
        }
    }
    Ok(Outcome::PASSED)
}

/// Each file that is made from the chart, and what it should hold.
fn made(context: &Context) -> Result<Vec<(PathBuf, String)>> {
    // kubectl keeps nothing that it is told to delete, so no annotation says so.
    let deploy = render(context, &["--set=crds.keep=false"])?;
    let mut files = vec![(DEPLOY.into(), format!("{NAMESPACE}{SEPARATOR}{deploy}"))];
    for values in others(&context.root)? {
        let path = values.strip_prefix(&context.root)?.display().to_string();
        let rendered = render(context, &["--values", &path])?;
        files.push((path.replace(VALUES, ".yaml").into(), rendered));
    }
    let chart = Path::new(CHART);
    let read = |name: &str| {
        let path = context.root.join(chart).join(name);
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let table = table::table(&read("values.schema.json")?, &read("values.yaml")?)?;
    files.push((chart.join("README.md"), table::replaced(&read("README.md")?, &table)?));
    Ok(files)
}

/// What the chart renders without its test, as it is committed.
fn render(context: &Context, arguments: &[&str]) -> Result<String> {
    let mut template = context.command("helm");
    template.args([
        "template",
        "harmony",
        CHART,
        "--namespace=harmony-system",
        "--skip-tests",
    ]);
    Ok(tidy(&output(template.args(arguments))?))
}

fn tidy(rendered: &str) -> String {
    let kept = rendered.lines().filter(|line| !line.starts_with(SOURCE));
    let lines: Vec<_> = kept.map(str::trim_end).collect();
    let text = format!("\n{}\n", lines.join("\n"));
    let documents = text
        .split(SEPARATOR)
        .map(str::trim)
        .filter(|document| !document.is_empty());
    documents.collect::<Vec<_>>().join(SEPARATOR) + "\n"
}

/// The files of values beside the chart's own.
fn others(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(CHART).join("ci");
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| path.to_string_lossy().ends_with(VALUES));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_kept_without_helms_remarks() {
        let rendered = "---\n# Source: harmony/templates/a.yaml\n# Why.\na: 1 \n\n---\n# Source: harmony/templates/b.yaml\n\n---\nb: 2\n";
        assert_eq!(tidy(rendered), "# Why.\na: 1\n---\nb: 2\n");
    }
}
