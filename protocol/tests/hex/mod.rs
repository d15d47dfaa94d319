//! Frames written as hex for people: see `tests/golden/README.md`.

use bytes::Bytes;
use harmony_protocol::wire::Frames;

/// The frames in a text; `None` if it is not in the format.
pub(crate) fn frames(text: &str) -> Option<Frames> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        let bytes = line.split('#').next()?.trim();
        if bytes == "frame" {
            frames.push(Vec::new());
            continue;
        }
        for byte in bytes.split_whitespace() {
            frames
                .last_mut()?
                .push(u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2)?);
        }
    }
    Some(frames.into_iter().map(Bytes::from).collect())
}
