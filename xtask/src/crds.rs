//! The committed copies of the `CustomResourceDefinition`.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::context::{Context, output};

/// Where the copies are, from the checkout. A chart may hold only its own files.
const COPIES: [&str; 2] = [
    "crds/harmonybatches.yaml",
    "charts/harmony/files/crds/harmonybatches.yaml",
];
/// The file that installs everything: one of its documents is the definition.
const INSTALL: &str = "deploy/harmony.yaml";
/// What is between two documents.
const SEPARATOR: &str = "\n---\n";
/// How the document is told from the others.
const KIND: &str = "kind: CustomResourceDefinition";

/// Writes what the operator prints. Tests of `harmony-api` and of the operator compare.
pub(crate) fn write(context: &Context) -> Result<ExitCode> {
    let mut print = context.cargo_locked("run");
    let yaml = output(print.args(["--quiet", "--package=harmony-operator", "--", "crd"]))?;
    let install = context.root.join(INSTALL);
    let before = fs::read_to_string(&install).with_context(|| format!("cannot read {INSTALL}"))?;
    fs::write(install, replaced(&before, &yaml)).with_context(|| format!("cannot write {INSTALL}"))?;
    for copy in COPIES {
        fs::write(context.root.join(copy), &yaml).with_context(|| format!("cannot write {copy}"))?;
        println!("{copy} is what the types say");
    }
    Ok(ExitCode::SUCCESS)
}

/// The documents with this definition in place of the one among them.
fn replaced(documents: &str, definition: &str) -> String {
    let definition = definition.trim_end();
    let kept = documents.split(SEPARATOR);
    let replaced: Vec<_> = kept
        .map(|document| if document.contains(KIND) { definition } else { document })
        .collect();
    replaced.join(SEPARATOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_definition_is_replaced() {
        let before = format!("a: 1\n---\nold: 1\n{KIND}\n---\nb: 2\n");
        let definition = format!("{KIND}\nnew: 1\n");
        assert_eq!(
            replaced(&before, &definition),
            format!("a: 1\n---\n{KIND}\nnew: 1\n---\nb: 2\n")
        );
    }
}
