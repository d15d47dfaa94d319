//! What documents name is there.

use std::path::Path;

use anyhow::Result;
use clap::CommandFactory;

use super::{files_below, none_of, read, seen};
use crate::cli::Cli;
use crate::context::Context;
use crate::step::Outcome;

/// Languages of the fenced blocks whose lines are commands.
const SHELL: &[&str] = &["sh", "bash", "console"];

/// Links and commands of every .md file.
pub(crate) fn documents(context: &Context) -> Result<Outcome> {
    let root = &context.root;
    let mut lost = Vec::new();
    if !root.join("README.md").is_file() {
        lost.push("README.md".to_owned());
    }
    for page in files_below(root, "md")? {
        let text = read(&page)?;
        lost.extend(absent(root, &page, links(&text)));
        let named = commands(&text).flat_map(|command| lost_in(root, command));
        lost.extend(named.map(|name| format!("{}: {name}", seen(root, &page))));
    }
    none_of("these are named and not there", &lost)?;
    Ok(Outcome::PASSED)
}

/// Which of the targets are not there, seen from the folder of the file that names them.
fn absent(root: &Path, file: &Path, mut targets: Vec<Target<'_>>) -> Vec<String> {
    let folder = file.parent().unwrap_or(root);
    targets.retain(|target| !target.is_in(folder));
    targets
        .into_iter()
        .map(|Target { path, item }| format!("{}: {path} {}", seen(root, file), item.unwrap_or_default()))
        .collect()
}

/// What a link names: a file, and what follows `#`.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    path: &'a str,
    item: Option<&'a str>,
}

impl Target<'_> {
    /// Of a source file, `#name` is something that it defines: a test, or a variant.
    fn is_in(&self, folder: &Path) -> bool {
        let path = folder.join(self.path);
        match self.item {
            Some(item) if path.extension().is_some_and(|extension| extension == "rs") => {
                let word = |text: &str| {
                    text.split(|c: char| !c.is_alphanumeric() && c != '_')
                        .any(|word| word == item)
                };
                read(&path).is_ok_and(|text| word(&text))
            }
            _ => path.exists(),
        }
    }
}

/// The relative links of a page.
fn links(text: &str) -> Vec<Target<'_>> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets
        .map(|(target, _)| match target.split_once('#') {
            Some((path, item)) => Target { path, item: Some(item) },
            None => Target {
                path: target,
                item: None,
            },
        })
        .filter(|target| !target.path.is_empty() && !target.path.contains("://"))
        .collect()
}

/// The lines of a page's shell blocks, without prompts and comments.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let mut language = None;
    text.lines().filter_map(move |line| {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = if language.is_some() { None } else { Some(fence) };
            return None;
        }
        let command = line.trim_start().trim_start_matches("$ ");
        let command = command.split_once(" #").map_or(command, |(command, _)| command);
        (SHELL.contains(&language?) && !command.starts_with('#')).then_some(command)
    })
}

/// What a command names that is not there: a subcommand of xtask, an example's YAML file, the script of CI.
fn lost_in(root: &Path, command: &str) -> Vec<String> {
    let words: Vec<_> = command.split_whitespace().collect();
    let called = words.windows(3).filter_map(|window| match window {
        ["cargo", "xtask", name] => Some(*name),
        _ => None,
    });
    let unknown = called.filter(|name| Cli::command().find_subcommand(name).is_none());
    let files = words
        .iter()
        .filter(|word| is_kept(Path::new(word)) && !root.join(word).exists());
    unknown
        .map(|name| format!("cargo xtask {name}"))
        .chain(files.map(|word| (*word).to_owned()))
        .collect()
}

/// Whether it is a file of the checkout, and not one that a command makes.
fn is_kept(word: &Path) -> bool {
    let example = word.starts_with("examples") && word.extension().is_some_and(|extension| extension == "yaml");
    example || word.starts_with(".ci")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_found() {
        let text = "See [a](docs/a.md), [b](docs/b.md#part) and [c](#here), [d](https://example.org/x).";
        let (a, b) = (
            Target {
                path: "docs/a.md",
                item: None,
            },
            Target {
                path: "docs/b.md",
                item: Some("part"),
            },
        );
        assert_eq!(links(text), [a, b]);
    }

    #[test]
    fn a_link_into_a_source_file_names_something_in_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.rs"), "#[test]\nfn the_test() {}\n").unwrap();
        let is_in = |item| {
            Target {
                path: "a.rs",
                item: Some(item),
            }
            .is_in(folder.path())
        };
        assert!(is_in("the_test"));
        assert!(!is_in("the_tes") && !is_in("another"));
    }

    #[test]
    fn commands_are_the_lines_of_shell_blocks() {
        let text = "```sh\n# why\n$ cargo test # all\n./x\n```\nprose\n```yaml\na: b\n```\n```console\nls\n```\n";
        assert_eq!(commands(text).collect::<Vec<_>>(), ["cargo test", "./x", "ls"]);
    }

    #[test]
    fn commands_that_name_nothing_are_found() {
        let root = tempfile::tempdir().unwrap();
        let lost = |command| lost_in(root.path(), command);
        assert!(lost("cargo xtask test --install").is_empty());
        assert_eq!(lost("cargo xtask tset"), ["cargo xtask tset"]);
        assert_eq!(
            lost("cargo run --release -- run examples/a/batch.yaml"),
            ["examples/a/batch.yaml"]
        );
    }
}
