//! Long files are where bugs gather. This warns; it never fails.

use anyhow::Result;

use super::{files_below, read, seen};
use crate::context::Context;
use crate::step::Outcome;

/// Lines of code outside tests above which a file should be split by idea.
const AIM: usize = 450;

/// Names every file under a src/ folder that is longer than the aim.
pub(crate) fn length(context: &Context) -> Result<Outcome> {
    let mut long = 0_usize;
    for path in files_below(&context.root, "rs")? {
        let lines = lines_outside_tests(&read(&path)?);
        if lines > AIM && path.iter().any(|part| part == "src") {
            println!(
                "warning: {} has {lines} lines outside tests",
                seen(&context.root, &path)
            );
            long += 1;
        }
    }
    Ok(match long {
        0 => Outcome::PASSED,
        _ => Outcome::Passed(format!("warning: {long} files above {AIM} lines")),
    })
}

/// Lines up to the module of tests that ends a file.
fn lines_outside_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.array_windows().position(|[attribute, module]| {
        *attribute == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_module_of_tests_at_the_end_is_left_out() {
        assert_eq!(lines_outside_tests("a\nb\n\n#[cfg(test)]\nmod tests {\n    c\n}\n"), 3);
        assert_eq!(lines_outside_tests("#[cfg(test)]\nmod tests;\na\n"), 3);
        assert_eq!(lines_outside_tests(""), 0);
    }
}
