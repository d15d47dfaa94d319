//! Names and reasons are for people: what is too long is cut, never refused, by the side that writes it.

use serde::Serializer;

use crate::limits::MAX_NAME;

/// A text cut to what a name or a reason may be on the wire ([`MAX_NAME`] bytes), at a character's border.
pub fn clip(text: &str) -> String {
    cut(text).to_owned()
}

pub(super) fn clipped<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text))
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_NAME)).unwrap_or(text)
}
