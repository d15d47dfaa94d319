//! What can be wrong with a message.

use thiserror::Error;

use super::Kind;
use crate::ids::Alias;
use crate::limits;

/// Why frames are no message of HARMONY/1. The link they came on is to be closed with BYE `malformed`, or, for
/// [`WireError::Version`], with BYE `version`.
#[derive(Debug, Error)]
pub enum WireError {
    /// Frame 0 has another length.
    #[error("frame 0 has {found} bytes; a header has 8")]
    HeaderLength {
        /// Its length in bytes.
        found: usize,
    },
    /// Frame 0 begins otherwise.
    #[error("frame 0 begins with {found:02x?}; a message of HARMONY begins with [48, 59] (HY)")]
    Magic {
        /// The first two bytes.
        found: [u8; 2],
    },
    /// A message other than HELLO is of another version.
    #[error("the message is of version {found}; this party speaks version 1 (only HELLO may be of another)")]
    Version {
        /// The version in the header.
        found: u8,
    },
    /// The kind is unknown.
    #[error("the message is of kind {found}; known are 1 (HELLO) to 22 (PART)")]
    Kind {
        /// The kind in the header.
        found: u8,
    },
    /// The alias does not go with the kind.
    #[error("{kind} bears alias {found}; allowed is {allowed}")]
    Alias {
        /// What the message is.
        kind: Kind,
        /// Its alias.
        found: Alias,
        /// What it may be.
        allowed: &'static str,
    },
    /// There are too many or too few frames.
    #[error("{kind} comes in {found} frames; it has {expected}, header included")]
    FrameCount {
        /// What the message is.
        kind: Kind,
        /// Frames found.
        found: usize,
        /// Frames that it has.
        expected: usize,
    },
    /// A message without frames.
    #[error("the message has no frame; frame 0 is the header")]
    NoFrames,
    /// A frame of fixed records has another length.
    #[error("frame 1 of {kind} has {found} bytes; {expected} are due")]
    Length {
        /// What the message is.
        kind: Kind,
        /// Bytes found.
        found: usize,
        /// Bytes due: what its fixed part and its count add up to.
        expected: usize,
    },
    /// A control body is too long.
    #[error("the body of {kind} has {found} bytes; at most {most} are allowed", most = limits::MAX_CONTROL)]
    ControlLength {
        /// What the message is.
        kind: Kind,
        /// Bytes found.
        found: usize,
    },
    /// A control body is not the JSON of its kind.
    #[error("the body of {kind} is not its JSON: {source}")]
    Json {
        /// What the message is.
        kind: Kind,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A list is too long, or empty where it must not be.
    #[error("{kind} has {found} {what}; allowed are {least} to {most}")]
    Count {
        /// What the message is.
        kind: Kind,
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The smallest count.
        least: usize,
        /// The largest count.
        most: usize,
    },
    /// A text or a task's bytes are too long.
    #[error("{field} of {kind} has {found} bytes; at most {most} are allowed")]
    TooLong {
        /// What the message is.
        kind: Kind,
        /// Which field.
        field: &'static str,
        /// Bytes found.
        found: u64,
        /// Bytes allowed.
        most: u64,
    },
    /// The lengths in the index and the payload frame disagree.
    #[error("the payload frame of {kind} has {found} bytes; the lengths in its index add up to {declared}")]
    Payload {
        /// What the message is.
        kind: Kind,
        /// Bytes found.
        found: usize,
        /// Bytes declared.
        declared: u64,
    },
    /// TASKS has unknown flags.
    #[error("TASKS has flags {found:#x}; known are 1 (alone), 2 (backup) and 4 (parted)")]
    Flags {
        /// All flags.
        found: u32,
    },
    /// RESULTS has an unknown outcome.
    #[error("RESULTS has outcome {found} for number {number}; known are 0 (succeeded) to 7 (executor error)")]
    Outcome {
        /// The outcome.
        found: u8,
        /// Whose outcome it is.
        number: u64,
    },
    /// RESULTS says neither that an output travels inline nor that it travels in parts.
    #[error("RESULTS has {found} as the way of the output of number {number}; known are 0 (inline) and 1 (in parts)")]
    Way {
        /// The way.
        found: u8,
        /// Whose output it is.
        number: u64,
    },
    /// Parts of an output that is no result.
    #[error("RESULTS has an output in parts for number {number}, which failed; only that of a success travels so")]
    PartsOfFailure {
        /// Whose output it is.
        number: u64,
    },
    /// A part that carries nothing.
    #[error("PART of number {number} has no bytes; allowed are 1 to {most}", most = limits::PART_BYTES)]
    EmptyPart {
        /// Whose part it is.
        number: u64,
    },
    /// An attempt is 0.
    #[error("{kind} has attempt 0 of number {number}; attempts count from 1")]
    Attempt {
        /// What the message is.
        kind: Kind,
        /// The number.
        number: u64,
    },
    /// A number that cannot exist.
    #[error("{kind} has number {found}; numbers are below it", found = u64::MAX)]
    Number {
        /// What the message is.
        kind: Kind,
    },
    /// What runs alone is not one task.
    #[error("{kind} says alone of {found} numbers; it goes with exactly 1")]
    Alone {
        /// What the message is.
        kind: Kind,
        /// How many numbers there are.
        found: u64,
    },
    /// What came in parts is not one task.
    #[error("TASKS says parted of {found} tasks; it goes with exactly 1")]
    Parted {
        /// How many tasks there are.
        found: u64,
    },
    /// What came in parts is empty.
    #[error("TASKS says that the payload of number {number} came in parts, yet it has no bytes")]
    NoParts {
        /// Whose payload it is.
        number: u64,
    },
    /// A span ends before it begins.
    #[error("{kind} has a span from {first} to {last}; the first must not be above the last")]
    Span {
        /// What the message is.
        kind: Kind,
        /// Its first number.
        first: u64,
        /// Its last number.
        last: u64,
    },
    /// HELLO offers no version.
    #[error("HELLO speaks versions {lowest} to {highest}; the first must not be above the second")]
    Versions {
        /// The lowest version.
        lowest: u8,
        /// The highest version.
        highest: u8,
    },
}
