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
