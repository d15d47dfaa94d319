//! Cases made of kept ones: purely random bytes hardly get past a magic number.

use std::fmt;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::{Target, parts};

/// Edits of one case at most: enough that some land together, few enough that some cases still get deep.
const EDITS: usize = 6;
/// Bytes that one edit puts in or repeats at most.
const PIECE: usize = 64;
/// How often a piece is repeated at most: past every count that is limited to some dozens.
const REPEATS: usize = 32;
/// Values around which bounds lie.
const EXTREMES: [u64; 9] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];
/// The same for numbers in texts.
const EXTREME_TEXTS: [&str; 9] = [
    "0",
    "1",
    "-1",
    "0.5",
    "1e999",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "",
];

/// A mutated case.
#[derive(Clone)]
pub struct Case {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether they differ from those of the kept case it was made of.
    pub changed: bool,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// One change of a case.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Word(Index, Index),
    Delete(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
    /// A number of 1, 2, 4 or 8 bytes in network order becomes an extreme.
    Number(Index, u32, Index),
    /// The next decimal number becomes an extreme.
    Digits(Index, Index),
    /// Goes on as another kept case does.
    Splice(Index, Index, Index),
    /// A piece of another kept case is put in.
    Borrow(Index, Index, Index, usize),
}

/// Cases made of these, with the words of their target put in.
pub fn cases(kept: Vec<Vec<u8>>, target: &Target) -> impl Strategy<Value = Case> + use<> {
    let kept: Arc<[Vec<u8>]> = kept.into();
    let words = target.words;
    let in_parts = target.in_parts;
    // Whether to keep to one part, in most cases: else nearly every case would end at a wrong length.
    let edit = || (prop::bool::weighted(0.9), any::<Index>(), edit());
    let edits = prop_oneof![
        2 => prop::collection::vec(edit(), 1),
        1 => prop::collection::vec(edit(), 1..=EDITS),
    ];
    (any::<Index>(), edits).prop_map(move |(seed, edits)| {
        let seed = seed.get(&kept);
        let mut bytes = seed.clone();
        for (within, part, edit) in &edits {
            if in_parts && *within {
                bytes = within_part(*part, &bytes, |part| apply(edit, part, &kept, words));
            } else {
                apply(edit, &mut bytes, &kept, words);
            }
        }
        let changed = bytes != *seed;
        Case { bytes, changed }
    })
}

/// Changes one part of a case and makes its length right again.
fn within_part(part: Index, case: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut all: Vec<_> = parts::split(case).into_iter().map(<[u8]>::to_vec).collect();
    // The longer a part, the more there is to change.
    let mut byte = part.index(case.len().max(1));
    let hit = all.iter_mut().find(|part| {
        let here = byte < part.len() + parts::LENGTH;
        byte = byte.saturating_sub(part.len() + parts::LENGTH);
        here
    });
    if let Some(part) = hit {
        change(part);
    }
    parts::join(all.iter().map(Vec::as_slice))
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..=8)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        2 => (at(), at()).prop_map(|(at, word)| Edit::Word(at, word)),
        2 => (at(), 1..=PIECE).prop_map(|(at, length)| Edit::Delete(at, length)),
        1 => (at(), 1..=PIECE, 1..=REPEATS).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        1 => at().prop_map(Edit::Cut),
        3 => (at(), 0..4_u32, at()).prop_map(|(at, size, value)| Edit::Number(at, size, value)),
        6 => (at(), at()).prop_map(|(at, value)| Edit::Digits(at, value)),
        1 => (at(), at(), at()).prop_map(|(at, other, from)| Edit::Splice(at, other, from)),
        1 => (at(), at(), at(), 1..=PIECE).prop_map(|(at, other, from, length)| Edit::Borrow(at, other, from, length)),
    ]
}

fn apply(edit: &Edit, bytes: &mut Vec<u8>, kept: &[Vec<u8>], words: &[&[u8]]) {
    let length = bytes.len();
    // A place before, between or behind the bytes, and one of them.
    let gap = |at: &Index| at.index(length + 1);
    match edit {
        Edit::Flip(at, bit) => {
            if length > 0 {
                bytes[at.index(length)] ^= 1 << bit;
            }
        }
        Edit::Insert(at, new) => insert(bytes, gap(at), new),
        Edit::Word(at, word) => {
            if !words.is_empty() {
                insert(bytes, gap(at), words[word.index(words.len())]);
            }
        }
        Edit::Delete(at, count) => {
            let from = gap(at);
            bytes.drain(from..length.min(from + count));
        }
        Edit::Repeat(at, count, times) => {
            let from = gap(at);
            let piece = bytes[from..length.min(from + count)].repeat(*times);
            insert(bytes, from, &piece);
        }
        Edit::Cut(at) => bytes.truncate(gap(at)),
        Edit::Number(at, size, value) => {
            let from = gap(at);
            let end = length.min(from + (1 << size));
            let value = value.get(&EXTREMES).to_be_bytes();
            bytes[from..end].copy_from_slice(&value[value.len() - (end - from)..]);
        }
        Edit::Digits(at, value) => replace_digits(bytes, gap(at), EXTREME_TEXTS[value.index(EXTREME_TEXTS.len())]),
        Edit::Splice(at, other, from) => {
            let other = other.get(kept);
            bytes.truncate(gap(at));
            bytes.extend(&other[from.index(other.len() + 1)..]);
        }
        Edit::Borrow(at, other, from, count) => {
            let other = other.get(kept);
            let from = from.index(other.len() + 1);
            insert(bytes, gap(at), &other[from..other.len().min(from + count)]);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    bytes.splice(at..at, new.iter().copied());
}

fn replace_digits(bytes: &mut Vec<u8>, from: usize, text: &str) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[from..].iter().position(is_digit).map(|start| from + start) else {
        return;
    };
    let count = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
    bytes.splice(start..start + count, text.bytes());
}
