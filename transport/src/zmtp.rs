//! The part of ZMTP 3 that a guard needs: the handshake with the NULL mechanism, and the frames that follow it.
//!
//! The guard speaks the handshake itself on both sides, so no byte of a peer's greeting or READY reaches zeromq, and a
//! connection that stays silent costs no socket. Frames are only measured, never held.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::config::MAX_PARTS;
use crate::error::CloseReason;

/// The largest READY body in bytes; a name and a socket type need far less.
const MAX_READY: usize = 1_024;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// How a peer broke the rules of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first bytes are not those of ZMTP.
    #[error("the peer does not speak ZMTP 3")]
    Greeting,
    /// Another mechanism than NULL.
    #[error("the peer asks for a mechanism other than NULL")]
    Mechanism,
    /// READY is malformed or too long.
    #[error("malformed READY command")]
    Ready,
    /// The socket is neither DEALER nor ROUTER.
    #[error("the peer's socket is neither DEALER nor ROUTER")]
    SocketType,
    /// A command after READY.
    #[error("a command after READY")]
    Command,
    /// Reserved bits are set.
    #[error("reserved bits in a frame header")]
    Flags,
    /// A message is larger than allowed.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// A message has too many frames.
    #[error("a message of more than {MAX_PARTS} frames")]
    TooManyParts,
}

/// Our greeting (version 3.0, mechanism NULL) and READY in one piece: ZMTP lets a side send ahead.
const HELLO: [u8; 64 + 30] = *b"\xff\0\0\0\0\0\0\0\0\x7f\x03\x00NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER";

/// Exchanges greetings and READY. Reads nothing beyond the peer's READY.
pub(crate) async fn handshake(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), CloseReason> {
    stream.write_all(&HELLO).await?;
    stream.flush().await?;
    let mut signature = [0; 10];
    stream.read_exact(&mut signature).await?;
    if signature.first() != Some(&0xff) || signature.last() != Some(&0x7f) {
        return Err(Violation::Greeting.into());
    }
    let mut rest = [0; 54];
    stream.read_exact(&mut rest).await?;
    check_greeting(&rest)?;
    let body = read_ready(stream).await?;
    check_ready(&body)?;
    Ok(())
}

fn check_greeting(rest: &[u8; 54]) -> Result<(), Violation> {
    let [major, _minor, mechanism @ ..] = rest;
    if *major < 3 {
        return Err(Violation::Greeting);
    }
    if mechanism.get(..20) != Some(b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0") {
        return Err(Violation::Mechanism);
    }
    Ok(())
}

async fn read_ready(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, CloseReason> {
    let length = match stream.read_u8().await? {
        COMMAND => u64::from(stream.read_u8().await?),
        flags if flags == COMMAND | LONG => stream.read_u64().await?,
        _ => return Err(Violation::Ready.into()),
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_READY)
        .ok_or(Violation::Ready)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn check_ready(body: &[u8]) -> Result<(), Violation> {
    let mut left = body.strip_prefix(b"\x05READY").ok_or(Violation::Ready)?;
    let mut kind = None;
    while let Some((&length, after)) = left.split_first() {
        let (name, after) = after.split_at_checked(usize::from(length)).ok_or(Violation::Ready)?;
        let (length, after) = after.split_first_chunk::<4>().ok_or(Violation::Ready)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Violation::Ready)?;
        let (value, after) = after.split_at_checked(length).ok_or(Violation::Ready)?;
        if name.is_empty() || !name.is_ascii() {
            return Err(Violation::Ready);
        }
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            kind = Some(value);
        }
        left = after;
    }
    match kind {
        Some(b"DEALER" | b"ROUTER") => Ok(()),
        Some(_) => Err(Violation::SocketType),
        None => Err(Violation::Ready),
    }
}

/// Measures a stream of frames as it passes, in constant memory.
#[derive(Debug)]
pub(crate) struct Frames {
    state: State,
    /// Frames of the message under way, the current one included.
    parts: usize,
    /// Bytes that the message under way may still have.
    room: u64,
    max_message: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Flags,
    Length { more: bool, missing: u8, value: u64 },
    Body { more: bool, left: u64 },
}

impl Frames {
    pub(crate) fn new(max_message: usize) -> Self {
        Self {
            state: State::Flags,
            parts: 0,
            room: max_message as u64,
            max_message,
        }
    }

    /// Looks at the next bytes and counts the messages that end in them.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) -> Result<usize, Violation> {
        let mut ended = 0;
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Flags => {
                    self.begin(first)?;
                    bytes = rest;
                }
                State::Length { more, missing, value } => {
                    self.measure(more, missing - 1, (value << 8) | u64::from(first))?;
                    bytes = rest;
                }
                State::Body { more, left } => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.state = State::Body {
                        more,
                        left: left - here as u64,
                    };
                    bytes = bytes.get(here..).unwrap_or_default();
                }
            }
            if let State::Body { more, left: 0 } = self.state {
                self.state = State::Flags;
                if !more {
                    self.parts = 0;
                    self.room = self.max_message as u64;
                    ended += 1;
                }
            }
        }
        Ok(ended)
    }

    fn begin(&mut self, flags: u8) -> Result<(), Violation> {
        if flags & COMMAND != 0 {
            return Err(Violation::Command);
        }
        if flags & !(MORE | LONG) != 0 {
            return Err(Violation::Flags);
        }
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(Violation::TooManyParts);
        }
        let missing = if flags & LONG != 0 { 8 } else { 1 };
        self.state = State::Length {
            more: flags & MORE != 0,
            missing,
            value: 0,
        };
        Ok(())
    }

    fn measure(&mut self, more: bool, missing: u8, value: u64) -> Result<(), Violation> {
        if missing > 0 {
            self.state = State::Length { more, missing, value };
            return Ok(());
        }
        self.room = self
            .room
            .checked_sub(value)
            .ok_or(Violation::TooLarge(self.max_message))?;
        self.state = State::Body { more, left: value };
        Ok(())
    }
}

/// The bytes that a message has on the wire.
pub(crate) fn wire_size<'a>(frames: impl IntoIterator<Item = &'a bytes::Bytes>) -> usize {
    frames
        .into_iter()
        .map(|frame| frame.len() + if frame.len() > 255 { 9 } else { 2 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).unwrap();
        [&[flags, length], body].concat()
    }

    /// The verdict must not depend on how the bytes are cut.
    fn verdict(bytes: &[u8], max_message: usize) -> Result<usize, Violation> {
        let whole = Frames::new(max_message).advance(bytes);
        for size in [1, 2, 3, 7] {
            let mut frames = Frames::new(max_message);
            let pieces = bytes
                .chunks(size)
                .map(|piece| frames.advance(piece))
                .sum::<Result<usize, _>>();
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn counts_messages_of_any_cut() {
        let one = [frame(MORE, b"header"), frame(MORE, b""), frame(0, b"payload")].concat();
        assert_eq!(verdict(&one.repeat(3), 13), Ok(3));
        assert_eq!(verdict(&one[..one.len() - 1], 13), Ok(0));
        let long = [&[LONG, 0, 0, 0, 0, 0, 0, 1, 0][..], &[0; 256]].concat();
        assert_eq!(verdict(&long, 256), Ok(1));
    }

    #[test]
    fn a_message_has_a_largest_size_over_all_frames() {
        let message = [frame(MORE, b"1234"), frame(0, b"5678")].concat();
        assert_eq!(verdict(&message, 8), Ok(1));
        assert_eq!(verdict(&message, 7), Err(Violation::TooLarge(7)));
        assert_eq!(
            verdict(&[LONG, 255, 255, 255, 255, 255, 255, 255, 255], 7),
            Err(Violation::TooLarge(7))
        );
    }

    #[test]
    fn a_message_has_a_largest_number_of_frames() {
        let parts = |count: usize| [frame(MORE, b"").repeat(count - 1), frame(0, b"")].concat();
        assert_eq!(verdict(&parts(MAX_PARTS).repeat(2), 0), Ok(2));
        assert_eq!(verdict(&parts(MAX_PARTS + 1), 0), Err(Violation::TooManyParts));
    }

    #[test]
    fn commands_and_reserved_bits_are_refused() {
        assert_eq!(verdict(&frame(COMMAND, b"\x04PING"), 100), Err(Violation::Command));
        for bit in 3..8 {
            assert_eq!(verdict(&frame(1 << bit, b""), 100), Err(Violation::Flags));
        }
    }

    #[tokio::test]
    async fn two_ends_shake_hands_and_read_nothing_more() {
        let (mut one, mut other) = tokio::io::duplex(4_096);
        let (left, right) = tokio::join!(
            async {
                handshake(&mut one).await?;
                one.write_all(b"after").await?;
                Ok::<_, CloseReason>(())
            },
            handshake(&mut other)
        );
        assert_eq!((left, right), (Ok(()), Ok(())));
        let mut after = [0; 5];
        other.read_exact(&mut after).await.unwrap();
        assert_eq!(&after, b"after");
    }
}
