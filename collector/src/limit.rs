//! How much room a log may take.

use std::str::FromStr;

use harmony_log::LogConfig;

/// What bounds the log of a batch. Recording pauses at nine tenths of it, as on a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLimit {
    /// So many bytes for each log.
    Bytes(u64),
    /// The file system, whatever else is on it and however it grows.
    FileSystem,
}

/// What is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no limit: give a number of bytes, or `fs` for the file system")]
pub struct LimitError(String);

impl FromStr for LogLimit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        match text {
            "fs" => Ok(Self::FileSystem),
            bytes => bytes.parse().map(Self::Bytes).map_err(|_| LimitError(text.to_owned())),
        }
    }
}

/// The bounds of a log.
pub(crate) fn bounded(limit: Option<LogLimit>) -> LogConfig {
    LogConfig {
        max_bytes: match limit {
            Some(LogLimit::Bytes(bytes)) => Some(bytes),
            Some(LogLimit::FileSystem) | None => None,
        },
        leave_room: limit == Some(LogLimit::FileSystem),
        ..LogConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_the_file_system() {
        assert_eq!("fs".parse(), Ok(LogLimit::FileSystem));
        assert_eq!("1048576".parse(), Ok(LogLimit::Bytes(1 << 20)));
        let refused = "1Gi".parse::<LogLimit>().unwrap_err().to_string();
        assert!(refused.contains("`fs`"), "{refused}");
    }
}
