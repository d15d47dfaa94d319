//! Frame 0 of every message: magic, version, kind, alias.

use std::fmt;

use bytes::{BufMut, Bytes};

use super::{Message, WireError};
use crate::ids::Alias;

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;
/// The bytes of frame 0.
pub const HEADER_BYTES: usize = 8;

const MAGIC: [u8; 2] = *b"HY";

macro_rules! kinds {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// What a message is, as the header says it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)] // each variant is documented at the body of its message
        pub enum Kind {
            $($name = $code,)*
        }

        impl Kind {
            /// Every kind, by code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(Self::$name => $text,)*
                })
            }
        }

        impl Message {
            /// What this message is.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$name(_) => Kind::$name,)*
                }
            }
        }
    };
}

kinds! {
    Hello = 1, "HELLO";
    Start = 2, "START";
    State = 3, "STATE";
    Refused = 4, "REFUSED";
    Bind = 5, "BIND";
    Want = 6, "WANT";
    Credit = 7, "CREDIT";
    Tasks = 8, "TASKS";
    Results = 9, "RESULTS";
    Ack = 10, "ACK";
    Report = 11, "REPORT";
    Held = 12, "HELD";
    End = 13, "END";
    Missing = 14, "MISSING";
    Done = 15, "DONE";
    Lost = 16, "LOST";
    Return = 17, "RETURN";
    Cancel = 18, "CANCEL";
    Ping = 19, "PING";
    Pong = 20, "PONG";
    Bye = 21, "BYE";
    Part = 22, "PART";
}

impl Kind {
    /// Whether messages of this kind concern the link itself, and so bear alias 0.
    pub fn is_of_link(self) -> bool {
        matches!(self, Self::Hello | Self::Ping | Self::Pong | Self::Bye)
    }

    /// Whether messages of this kind make an alias known, which therefore cannot be 0.
    fn opens_alias(self) -> bool {
        matches!(self, Self::Start | Self::Bind)
    }
}

pub(super) fn encode(alias: Alias, kind: Kind) -> Bytes {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.put_slice(&MAGIC);
    header.put_u8(VERSION);
    header.put_u8(kind as u8);
    header.put_u32(alias);
    header.into()
}

pub(super) fn decode(frame: &[u8]) -> Result<(Alias, Kind), WireError> {
    let header: [u8; HEADER_BYTES] = frame
        .try_into()
        .map_err(|_| WireError::HeaderLength { found: frame.len() })?;
    let [first, second, version, code, alias @ ..] = header;
    if [first, second] != MAGIC {
        return Err(WireError::Magic { found: [first, second] });
    }
    let alias = Alias::from_be_bytes(alias);
    // HELLO is how versions are agreed on, so it alone may come from another one.
    if version != VERSION && code != Kind::Hello as u8 {
        return Err(WireError::Version { found: version });
    }
    let kind = Kind::from_code(code).ok_or(WireError::Kind { found: code })?;
    if kind.is_of_link() && alias != 0 {
        return Err(WireError::Alias {
            kind,
            found: alias,
            allowed: "0, since it concerns the link itself",
        });
    }
    if kind.opens_alias() && alias == 0 {
        return Err(WireError::Alias {
            kind,
            found: alias,
            allowed: "any but 0, since it names a batch",
        });
    }
    Ok((alias, kind))
}
