//! Amounts of bytes.

use crate::spec::ByteSize;

/// The suffixes of Kubernetes' quantities that make sense for bytes, each with its factor.
const SUFFIXES: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl ByteSize {
    /// The bytes, or nothing if this is no whole number of them.
    pub fn bytes(&self) -> Option<u64> {
        let text = match self {
            Self::Number(bytes) => return u64::try_from(*bytes).ok(),
            Self::Text(text) => text,
        };
        let suffix = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
        let (digits, factor) = suffix.unwrap_or((text, 1));
        // `parse` takes a plus sign, a quantity of bytes does not.
        let number: u64 = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
        number.checked_mul(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_bytes() {
        let cases = [
            ("16Mi", Some(16 << 20)),
            ("1Ki", Some(1_024)),
            ("2M", Some(2_000_000)),
            ("1048576", Some(1_048_576)),
            ("0", Some(0)),
            ("", None),
            ("Mi", None),
            ("+1Mi", None),
            ("-1", None),
            ("1.5Mi", None),
            ("1 Mi", None),
            ("16MB", None),
            ("18446744073709551615Ki", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(ByteSize::Text(text.to_owned()).bytes(), bytes, "{text}");
        }
        assert_eq!(ByteSize::Number(7).bytes(), Some(7));
        assert_eq!(ByteSize::Number(-7).bytes(), None);
    }
}
