//! What ZMTP 3 says about the bytes of a peer, worked out over the whole input at once: shares nothing with the guard.

/// Bytes of a greeting.
const GREETING: usize = 64;
/// Where a greeting names its mechanism.
const MECHANISM: std::ops::Range<usize> = 12..32;
/// The largest READY that is taken, in bytes.
const MAX_READY: u64 = 1_024;

/// What the bytes of a peer amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The peer stops in the middle of its handshake.
    NoHandshake,
    /// The handshake is wrong.
    BadHandshake,
    /// The peer shook hands.
    Link {
        /// Where its frames begin.
        frames: usize,
        /// Whole messages before the first violation.
        messages: usize,
        /// Where the header ends of the first frame that must not pass.
        violation: Option<usize>,
    },
}

/// Judges all bytes of a peer.
pub(crate) fn judge(bytes: &[u8], max_message: u64, max_parts: usize) -> Verdict {
    match handshake(bytes) {
        Ok(Some(frames)) => {
            let (messages, violation) = measure(bytes, frames, max_message, max_parts);
            Verdict::Link {
                frames,
                messages,
                violation,
            }
        }
        Ok(None) => Verdict::NoHandshake,
        Err(Wrong) => Verdict::BadHandshake,
    }
}

struct Wrong;

/// Where the handshake ends, if it does. What is there is judged before what is missing, in the order of reading.
fn handshake(bytes: &[u8]) -> Result<Option<usize>, Wrong> {
    let Some(signature) = bytes.get(..10) else {
        return Ok(None);
    };
    if signature[0] != 0xff || signature[9] != 0x7f {
        return Err(Wrong);
    }
    let Some(greeting) = bytes.get(..GREETING) else {
        return Ok(None);
    };
    let mut null = [0; 20];
    null[..4].copy_from_slice(b"NULL");
    if greeting[10] < 3 || greeting[MECHANISM] != null {
        return Err(Wrong);
    }
    let Some(&flags) = bytes.get(GREETING) else {
        return Ok(None);
    };
    let width = match flags {
        4 => 1,
        6 => 8,
        _ => return Err(Wrong),
    };
    let start = GREETING + 1 + width;
    let Some(length) = bytes.get(GREETING + 1..start).map(number) else {
        return Ok(None);
    };
    if length > MAX_READY {
        return Err(Wrong);
    }
    let end = start + usize::try_from(length).expect("checked");
    let Some(body) = bytes.get(start..end) else {
        return Ok(None);
    };
    let kind = socket_type(body).ok_or(Wrong)?;
    if kind == b"DEALER" || kind == b"ROUTER" {
        Ok(Some(end))
    } else {
        Err(Wrong)
    }
}

/// The socket type that READY names; `None` if READY is malformed or names none.
fn socket_type(body: &[u8]) -> Option<&[u8]> {
    let mut at = 6;
    let mut kind = None;
    if body.get(..at)? != b"\x05READY" {
        return None;
    }
    while at < body.len() {
        let name = body.get(at + 1..at + 1 + usize::from(body[at]))?;
        at += 1 + name.len();
        let length = usize::try_from(number(body.get(at..at + 4)?)).ok()?;
        let value = body.get(at + 4..(at + 4).checked_add(length)?)?;
        at += 4 + value.len();
        if name.is_empty() || !name.is_ascii() {
            return None;
        }
        if name.eq_ignore_ascii_case(b"socket-type") {
            kind = Some(value);
        }
    }
    kind
}

fn measure(bytes: &[u8], mut at: usize, max_message: u64, max_parts: usize) -> (usize, Option<usize>) {
    let (mut messages, mut parts, mut size) = (0, 0, 0_u64);
    while let Some(&flags) = bytes.get(at) {
        parts += 1;
        if flags > 3 || parts > max_parts {
            return (messages, Some(at + 1));
        }
        let body = at + if flags & 2 == 0 { 2 } else { 9 };
        let Some(length) = bytes.get(at + 1..body).map(number) else {
            break;
        };
        size = size.saturating_add(length);
        if size > max_message {
            return (messages, Some(body));
        }
        at = body + usize::try_from(length).expect("checked");
        if flags & 1 == 0 && at <= bytes.len() {
            messages += 1;
            (parts, size) = (0, 0);
        }
    }
    (messages, None)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}
