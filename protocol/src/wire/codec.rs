//! Messages to frames and back.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::check::Check;
use super::{Addressed, Frames, Kind, Message, WireError, binary, header};
use crate::ids::Alias;
use crate::limits;

/// The frames of a message under an alias (0 for HELLO, PING, PONG and BYE).
///
/// The sender keeps the limits: what exceeds them is refused by the receiver's [`decode`]. Names and reasons are cut
/// here, see [`clip`](super::clip).
pub fn encode(alias: Alias, message: &Message) -> Frames {
    let header = header::encode(alias, message.kind());
    let body = match message {
        Message::Want(want) => binary::encode_want(want),
        Message::Credit(credit) => binary::encode_credit(credit),
        Message::Ack(ack) => binary::encode_ack(ack),
        Message::Tasks(tasks) => return vec![header, binary::encode_tasks(tasks), tasks.payloads.clone()],
        Message::Results(results) => return vec![header, binary::encode_results(results), results.bytes.clone()],
        Message::Part(part) => return vec![header, binary::encode_part(part), part.bytes.clone()],
        Message::Hello(body) => json(body),
        Message::Start(body) => json(body),
        Message::State(body) => json(body),
        Message::Refused(body) => json(body),
        Message::Bind(body) => json(body),
        Message::Report(body) => json(body),
        Message::Held(body) => json(body),
        Message::End(body) => json(body),
        Message::Missing(body) => json(body),
        Message::Done(body) => json(body),
        Message::Lost(body) => json(body),
        Message::Return(body) => json(body),
        Message::Cancel(body) => json(body),
        Message::Ping(body) => json(body),
        Message::Pong(body) => json(body),
        Message::Bye(body) => json(body),
    };
    vec![header, body]
}

/// The message in these frames, checked against every limit of the protocol that needs no knowledge of the link.
/// Payloads are slices of the frames, nothing is copied, and memory is bounded by the frames' own length.
pub fn decode(frames: &[Bytes]) -> Result<Addressed, WireError> {
    let (header, rest) = frames.split_first().ok_or(WireError::NoFrames)?;
    let (alias, kind) = header::decode(header)?;
    let message = match kind {
        Kind::Want => Message::Want(binary::decode_want(body(kind, rest)?)?),
        Kind::Credit => Message::Credit(binary::decode_credit(body(kind, rest)?)?),
        Kind::Ack => Message::Ack(binary::decode_ack(body(kind, rest)?)?),
        Kind::Tasks => Message::Tasks(binary::decode_tasks(exactly(kind, rest)?)?),
        Kind::Results => Message::Results(binary::decode_results(exactly(kind, rest)?)?),
        Kind::Part => Message::Part(binary::decode_part(exactly(kind, rest)?)?),
        Kind::Hello => Message::Hello(control(kind, rest)?),
        Kind::Start => Message::Start(control(kind, rest)?),
        Kind::State => Message::State(control(kind, rest)?),
        Kind::Refused => Message::Refused(control(kind, rest)?),
        Kind::Bind => Message::Bind(control(kind, rest)?),
        Kind::Report => Message::Report(control(kind, rest)?),
        Kind::Held => Message::Held(control(kind, rest)?),
        Kind::End => Message::End(control(kind, rest)?),
        Kind::Missing => Message::Missing(control(kind, rest)?),
        Kind::Done => Message::Done(control(kind, rest)?),
        Kind::Lost => Message::Lost(control(kind, rest)?),
        Kind::Return => Message::Return(control(kind, rest)?),
        Kind::Cancel => Message::Cancel(control(kind, rest)?),
        Kind::Ping => Message::Ping(control(kind, rest)?),
        Kind::Pong => Message::Pong(control(kind, rest)?),
        Kind::Bye => Message::Bye(control(kind, rest)?),
    };
    Ok((alias, message))
}

/// The frames behind the header, if they are as many as the kind has.
fn exactly<const N: usize>(kind: Kind, rest: &[Bytes]) -> Result<&[Bytes; N], WireError> {
    rest.try_into().map_err(|_| WireError::FrameCount {
        kind,
        found: rest.len() + 1,
        expected: N + 1,
    })
}

fn body(kind: Kind, rest: &[Bytes]) -> Result<&[u8], WireError> {
    let [body] = exactly(kind, rest)?;
    Ok(body)
}

fn control<T: DeserializeOwned + Check>(kind: Kind, rest: &[Bytes]) -> Result<T, WireError> {
    let body = body(kind, rest)?;
    if body.len() > limits::MAX_CONTROL {
        return Err(WireError::ControlLength {
            kind,
            found: body.len(),
        });
    }
    let message: T = serde_json::from_slice(body).map_err(|source| WireError::Json { kind, source })?;
    message.check(kind)?;
    Ok(message)
}

/// Writing plain structs to memory cannot fail; an empty body, which no receiver takes, stands for the impossible.
fn json<T: Serialize>(body: &T) -> Bytes {
    let body = serde_json::to_vec(body).unwrap_or_default();
    if cfg!(feature = "next") {
        return extended(&body).into();
    }
    body.into()
}

/// The same object with one more field, as a later version may send it.
fn extended(body: &[u8]) -> Vec<u8> {
    match body {
        [b'{', b'}'] => EXTENSION.trim_end_matches(',').bytes().chain(*b"}").collect(),
        [b'{', fields @ ..] => EXTENSION.bytes().chain(fields.iter().copied()).collect(),
        other => other.to_vec(),
    }
}

/// The beginning of an object whose first field no version knows yet.
const EXTENSION: &str = r#"{"sinceTheNextVersion":{"optional":[1,"two",null]},"#;
