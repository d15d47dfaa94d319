//! HARMONY/1 on the wire: messages as plain types, and their bytes. `docs/protocol.md` is the specification.

mod binary;
mod check;
mod codec;
mod control;
mod error;
mod header;
mod hot;
mod text;

pub(crate) use binary::{RESULT_BYTES, decode_results, encode_results};
pub use codec::{decode, encode};
pub use control::*;
pub use error::WireError;
pub use header::{HEADER_BYTES, Kind, VERSION};
pub use hot::*;
pub use text::clip;

use bytes::Bytes;

use crate::ids::Alias;

/// A ZeroMQ multipart message: the header, then one body frame (control) or an index and a payload frame (hot).
pub type Frames = Vec<Bytes>;

/// Any message of HARMONY/1.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // each variant is documented at its type
pub enum Message {
    Hello(Hello),
    Start(Box<Start>),
    State(Box<State>),
    Refused(Refused),
    Bind(Bind),
    Want(Want),
    Credit(Credit),
    Tasks(Tasks),
    Results(Results),
    Ack(Ack),
    Report(Box<Report>),
    Held(Held),
    End(End),
    Missing(Missing),
    Done(Done),
    Lost(Lost),
    Return(Return),
    Cancel(Cancel),
    Ping(Ping),
    Pong(Pong),
    Bye(Bye),
    Part(Part),
}

/// A message with the alias of the batch it concerns (0: the link itself).
pub type Addressed = (Alias, Message);
