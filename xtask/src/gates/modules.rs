//! A file that no `mod` reaches is not compiled: its tests do not run, and nobody sees it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{files_below, none_of, read, seen};
use crate::context::Context;
use crate::step::Outcome;

/// The folders of a crate that cargo looks for targets in.
const TARGET_FOLDERS: &[&str] = &["tests", "benches", "examples"];

/// Every .rs file of every crate is a target's root or reached from one.
pub(crate) fn modules(context: &Context) -> Result<Outcome> {
    let orphans = orphans(&context.root)?;
    none_of("no mod reaches these files", &orphans)?;
    Ok(Outcome::PASSED)
}

fn orphans(root: &Path) -> Result<Vec<String>> {
    let manifests = files_below(root, "toml")?;
    let crates = manifests.iter().filter(|path| path.ends_with("Cargo.toml"));
    let mut orphans = Vec::new();
    for folder in crates.filter_map(|path| path.parent()) {
        let mut files = Vec::new();
        for part in ["src"].iter().chain(TARGET_FOLDERS).map(|part| folder.join(part)) {
            // The workspace's own examples/ holds crates of their own.
            if part.is_dir() && folder != root {
                files.extend(files_below(&part, "rs")?);
            }
        }
        let mut reached = BTreeSet::new();
        let mut open: Vec<_> = files.iter().filter(|path| is_root(folder, path)).cloned().collect();
        while let Some(file) = open.pop() {
            if file.is_file() && reached.insert(file.clone()) {
                open.extend(declared(&read(&file)?, &file, is_root(folder, &file)));
            }
        }
        let lost = files.iter().filter(|path| !reached.contains(*path));
        orphans.extend(lost.map(|path| seen(root, path).to_string()));
    }
    Ok(orphans)
}

/// Whether cargo makes a target of the file without being told.
fn is_root(folder: &Path, file: &Path) -> bool {
    let Ok(path) = file.strip_prefix(folder) else {
        return false;
    };
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] | ["src", "bin", _, "main.rs"] => true,
        [part, _] | [part, _, "main.rs"] => TARGET_FOLDERS.contains(part),
        _ => false,
    }
}

/// The files that the `mod name;` lines of a file may mean.
fn declared(text: &str, file: &Path, root: bool) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(file);
    let inner = if root || file.ends_with("mod.rs") {
        folder.to_owned()
    } else {
        file.with_extension("")
    };
    let mut files = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(named) = line
            .strip_prefix("#[path = \"")
            .and_then(|rest| rest.strip_suffix("\"]"))
        {
            path = Some(folder.join(named));
        } else if let Some(name) = module_name(line) {
            match path.take() {
                Some(named) => files.push(named),
                None => files.extend([inner.join(format!("{name}.rs")), inner.join(name).join("mod.rs")]),
            }
        }
    }
    files
}

/// The name in `mod name;`, whatever its visibility.
fn module_name(line: &str) -> Option<&str> {
    let declaration = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    declaration.strip_prefix("mod ")?.strip_suffix(';')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_declaration_is_seen_whatever_its_visibility() {
        for line in ["mod a;", "pub mod a;", "pub(crate) mod a;", "pub(in crate::b) mod a;"] {
            assert_eq!(module_name(line), Some("a"), "{line}");
        }
        for line in ["mod a {", "// mod a;", "model a;", "use a;"] {
            assert_eq!(module_name(line), None, "{line}");
        }
    }

    #[test]
    fn a_file_that_nothing_declares_is_found() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("Cargo.toml", ""),
            ("a/Cargo.toml", ""),
            ("a/src/lib.rs", "pub mod one;\nmod two;\n#[cfg(test)]\nmod tests {\n}\n"),
            ("a/src/one.rs", "mod deep;"),
            ("a/src/one/deep.rs", ""),
            ("a/src/one/lost.rs", ""),
            ("a/src/two/mod.rs", "mod beside;"),
            ("a/src/two/beside.rs", ""),
            ("a/src/bin/tool.rs", ""),
            ("a/tests/all.rs", "#[path = \"parts/part.rs\"]\nmod part;"),
            ("a/tests/parts/part.rs", ""),
            ("a/tests/parts/lost.rs", ""),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(
            orphans(root.path()).unwrap(),
            ["a/src/one/lost.rs", "a/tests/parts/lost.rs"]
        );
    }
}
