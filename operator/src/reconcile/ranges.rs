//! Sets of numbers in the format of a Job's `completedIndexes`.

use harmony_protocol::wire::Span;

/// Writes rising ranges such as `7,9-12`, in at most `most` bytes. The second value says whether ranges are left out.
pub(crate) fn write(spans: &[Span], most: usize) -> (String, bool) {
    let mut text = String::new();
    for (first, last) in spans {
        let range = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        let comma = usize::from(!text.is_empty());
        if text.len() + comma + range.len() > most {
            return (text, true);
        }
        if comma == 1 {
            text.push(',');
        }
        text.push_str(&range);
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_a_job_does() {
        assert_eq!(write(&[(0, 0), (2, 3), (7, 9)], 100), ("0,2-3,7-9".into(), false));
        assert_eq!(write(&[], 100), (String::new(), false));
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        assert_eq!(write(&[(0, 0), (2, 3), (7, 9)], 8), ("0,2-3".into(), true));
        assert_eq!(write(&[(0, 0), (2, 3), (7, 9)], 9), ("0,2-3,7-9".into(), false));
    }
}
