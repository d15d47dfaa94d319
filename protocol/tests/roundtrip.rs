//! What is encoded decodes to the same; what is damaged is an error or another message, never a panic.

#![allow(clippy::indexing_slicing)] // an index out of range fails the test, as it should

use bytes::Bytes;
use harmony_protocol::wire::{Frames, Message, ResultEntry, decode, encode};
use proptest::prelude::*;
use proptest::sample::Index;

mod messages;

/// One thing that can happen to frames on their way.
#[derive(Clone, Debug)]
enum Damage {
    Change(Index, Index, u8),
    Cut(Index, Index),
    Append(Index, Vec<u8>),
    Drop(Index),
    Repeat(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        6 => (at(), at(), any::<u8>()).prop_map(|(frame, byte, value)| Damage::Change(frame, byte, value)),
        2 => (at(), at()).prop_map(|(frame, length)| Damage::Cut(frame, length)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..50)).prop_map(|(frame, more)| Damage::Append(frame, more)),
        1 => at().prop_map(Damage::Drop),
        1 => at().prop_map(Damage::Repeat),
    ]
}

fn apply(damage: &Damage, frames: &mut Frames) {
    if frames.is_empty() {
        return;
    }
    let count = frames.len();
    let (Damage::Change(at, ..) | Damage::Cut(at, _) | Damage::Append(at, _) | Damage::Drop(at) | Damage::Repeat(at)) =
        damage;
    let at = at.index(count);
    let mut frame = frames[at].to_vec();
    match damage {
        Damage::Change(_, byte, value) if !frame.is_empty() => {
            let byte = byte.index(frame.len());
            frame[byte] = *value;
        }
        Damage::Change(..) => {}
        Damage::Cut(_, length) => frame.truncate(length.index(frame.len() + 1)),
        Damage::Append(_, more) => frame.extend_from_slice(more),
        Damage::Repeat(_) => frames.push(frames[at].clone()),
        Damage::Drop(_) => {
            frames.remove(at);
            return;
        }
    }
    frames[at] = frame.into();
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were(addressed in messages::addressed()) {
        let (alias, message) = &addressed;
        let frames = encode(*alias, message);
        prop_assert_eq!(decode(&frames).expect("what is encoded is well-formed"), addressed);
    }

    #[test]
    fn pieces_are_the_payload_in_order(addressed in messages::addressed()) {
        let joined = |pieces: Vec<Bytes>| pieces.concat();
        match addressed.1 {
            Message::Tasks(tasks) => {
                prop_assert!(tasks.pieces().all(|(entry, payload)| payload.len() == tasks.inline(&entry) as usize));
                prop_assert_eq!(joined(tasks.pieces().map(|(_, payload)| payload).collect()), tasks.payloads);
            }
            Message::Results(results) => {
                let lengths = |(entry, output, log): (ResultEntry, Bytes, Bytes)| {
                    (output.len(), log.len()) == (entry.inline() as usize, entry.log as usize)
                };
                prop_assert!(results.pieces().all(lengths));
                prop_assert_eq!(joined(results.pieces().flat_map(|(_, output, log)| [output, log]).collect()), results.bytes);
            }
            _ => {}
        }
    }

    #[test]
    fn damaged_messages_never_panic(
        addressed in messages::addressed(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let (alias, message) = addressed;
        let mut frames = encode(alias, &message);
        for damage in &damages {
            apply(damage, &mut frames);
        }
        // Whatever still decodes is a message that keeps to the protocol, so it goes round once more.
        if let Ok((alias, message)) = decode(&frames) {
            prop_assert_eq!(decode(&encode(alias, &message)).expect("it was decoded"), (alias, message));
        }
    }

    #[test]
    fn random_bytes_never_panic(
        kind in 0..=23_u8,
        rest in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        let header = Bytes::copy_from_slice(&[b'H', b'Y', 1, kind, 0, 0, 0, 0]);
        let raw: Frames = rest.into_iter().map(Bytes::from).collect();
        let _ = decode(&raw);
        let _ = decode(&[vec![header], raw].concat());
    }
}
