//! The protocol crate decides and never acts, so that a simulator can drive it on virtual time; and no ordinary build has
//! what is for tests alone in it.

use anyhow::Result;

use super::none_of;
use crate::context::{Context, output};
use crate::step::Outcome;

/// Crates that open sockets, wait for time or touch files.
const ACTORS: &[&str] = &[
    "mio", "nix", "reqwest", "rustix", "rustls", "socket2", "tokio", "zeromq",
];

/// Features that compile deliberate bugs in, and what a later version may be like.
const FOR_TESTS: [&str; 2] = ["mutants", "next"];

/// No actor is in the protocol crate's normal dependencies, at any depth, and no crate has a feature
/// that is for tests alone unless asked for.
pub(crate) fn purity(context: &Context) -> Result<Outcome> {
    let mut tree = context.cargo_locked("tree");
    tree.args([
        "--package=harmony-protocol",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
    ]);
    none_of("harmony-protocol depends on", &actors(&output(&mut tree)?))?;
    let mut tree = context.cargo_locked("tree");
    tree.args(["--workspace", "--prefix=none", "--format={p}|{f}"]);
    none_of(
        "what is for tests alone is built into",
        &with_test_features(&output(&mut tree)?),
    )?;
    Ok(Outcome::PASSED)
}

fn actors(tree: &str) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| ACTORS.contains(name)).map(str::to_owned).collect()
}

/// The crates with such a feature, of lines that name a package and its features.
fn with_test_features(tree: &str) -> Vec<String> {
    let packages = tree.lines().filter_map(|line| line.split_once('|'));
    let with = packages.filter(|(_, features)| features.split([',', ' ']).any(|feature| FOR_TESTS.contains(&feature)));
    with.map(|(package, _)| package.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_count() {
        assert_eq!(
            actors("harmony-protocol v0.1.0 (/x)\nbytes v1.12.2\n\ntokio v1.54.1\n"),
            ["tokio"]
        );
        assert!(actors("tokio-util v0.7.20\n").is_empty());
    }

    #[test]
    fn features_for_tests_are_seen_among_others() {
        let tree = "a v1 (/a)|std\nb v1 (/b)|mutants,std\nc v1 (/c)|next\nd v1 (/d)|nextest\nb v1 (/b)|mutants (*)\n";
        assert_eq!(with_test_features(tree), ["b v1 (/b)", "c v1 (/c)", "b v1 (/b)"]);
    }
}
