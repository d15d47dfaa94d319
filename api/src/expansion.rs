//! `$(NAME)` in a container's command, read as a kubelet reads it.

/// `text` as a program gets it if no variable is set: `$$` is one `$`, and a `$(NAME)` that nothing sets stays as it is.
/// A name that the container sets is the error.
pub(crate) fn expand(text: &str, is_set: impl Fn(&str) -> bool) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        expanded.push('$');
        rest = after.strip_prefix('$').unwrap_or(after);
        let named = after.strip_prefix('(').and_then(|name| name.split_once(')'));
        if let Some((name, _)) = named.filter(|(name, _)| is_set(name)) {
            return Err(name.to_owned());
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_of_the_container_are_refused() {
        let expand = |text| expand(text, |name| name == "SET");
        for (text, expanded) in [
            ("plain", "plain"),
            ("sha256sum $(cat)", "sha256sum $(cat)"),
            ("$$(SET)", "$(SET)"),
            ("$$$$", "$$"),
            ("$HOME $(", "$HOME $("),
            ("a$", "a$"),
        ] {
            assert_eq!(expand(text), Ok(expanded.to_owned()), "{text}");
        }
        for text in ["$(SET)", "a $(cat) $(SET)b", "$$$(SET)"] {
            assert_eq!(expand(text), Err("SET".to_owned()), "{text}");
        }
    }
}
