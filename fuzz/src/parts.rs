//! Several byte strings in one case: each with its length before it. Any bytes are some parts, so that edits may hit
//! the lengths too.

/// Bytes of a length.
pub(crate) const LENGTH: usize = 4;

/// Puts parts into one case.
pub(crate) fn join<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut case = Vec::new();
    for part in parts {
        let length = u32::try_from(part.len()).expect("parts of cases are small");
        case.extend(length.to_be_bytes());
        case.extend(part);
    }
    case
}

/// The parts of a case; a length that says too much means all that is left.
pub(crate) fn split(mut case: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = case.split_first_chunk::<LENGTH>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_or(rest.len(), |length| length.min(rest.len()));
        let (part, rest) = rest.split_at(length);
        parts.push(part);
        case = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_split_again_and_any_bytes_can_be() {
        let parts: [&[u8]; 3] = [b"one", b"", b"three"];
        assert_eq!(split(&join(parts)), parts);
        assert_eq!(split(&[0, 0, 0, 9, 1, 2]), [[1, 2]]);
        assert!(split(&[0, 0]).is_empty());
    }
}
