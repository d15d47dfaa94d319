//! The protocol crate decides and never acts, so that a simulator can drive it on virtual time.

use anyhow::Result;

use super::none_of;
use crate::context::{Context, output};
use crate::step::Outcome;

/// Crates that open sockets, wait for time or touch files.
const ACTORS: &[&str] = &[
    "mio", "nix", "reqwest", "rustix", "rustls", "socket2", "tokio", "zeromq",
];

/// No such crate is in the protocol crate's normal dependencies, at any depth.
pub(crate) fn purity(context: &Context) -> Result<Outcome> {
    let mut tree = context.cargo_locked("tree");
    tree.args([
        "--package=harmony-protocol",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
    ]);
    none_of("harmony-protocol depends on", &actors(&output(&mut tree)?))?;
    Ok(Outcome::PASSED)
}

fn actors(tree: &str) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| ACTORS.contains(name)).map(str::to_owned).collect()
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
}
