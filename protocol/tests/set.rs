//! `NumberSet` against a plain `BTreeSet`, and at the places where its parts meet.

use std::collections::BTreeSet;

use harmony_protocol::set::{NumberSet, SetError};
use harmony_protocol::wire::Span;
use proptest::prelude::*;

/// Numbers are drawn from below this, so that they meet each other.
const SMALL: u64 = 300;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    InsertSpan(u64, u64),
    Remove(u64),
}

fn number() -> impl Strategy<Value = u64> {
    // The start, often its very first numbers so that the mark moves, a border between two containers, and the border
    // between two bitmaps.
    prop_oneof![
        0..3_u64,
        0..SMALL,
        65_400..65_400 + SMALL,
        (1 << 32) - SMALL / 2..(1_u64 << 32) + SMALL / 2,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => number().prop_map(Step::Insert),
        3 => (number(), 0..SMALL).prop_map(|(first, more)| Step::InsertSpan(first, first + more)),
        2 => number().prop_map(Step::Remove),
    ]
}

/// The runs of a sorted iterator of numbers.
fn spans_of(numbers: impl Iterator<Item = u64>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => spans.push((number, number)),
        }
    }
    spans
}

fn bytes_of(set: &NumberSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(set.write_to(&mut bytes).is_ok(), "a Vec takes all bytes");
    bytes
}

proptest! {
    #[test]
    fn behaves_like_a_plain_set(steps in prop::collection::vec(step(), 0..60), below in 0..SMALL * 2) {
        let mut set = NumberSet::new();
        let mut plain = BTreeSet::new();
        for step in steps {
            match step {
                Step::Insert(n) => prop_assert_eq!(set.insert(n), plain.insert(n)),
                Step::InsertSpan(first, last) => {
                    let added = (first..=last).filter(|&n| plain.insert(n)).count();
                    prop_assert_eq!(set.insert_span(first, last), added as u64);
                }
                Step::Remove(n) => prop_assert_eq!(set.remove(n), plain.remove(&n)),
            }
            prop_assert_eq!(set.len(), plain.len() as u64);
            prop_assert_eq!(set.is_empty(), plain.is_empty());
            prop_assert_eq!(Some(set.low()), (0..u64::MAX).find(|n| !plain.contains(n)));
        }
        for n in (0..SMALL * 2).chain(65_300..66_100) {
            prop_assert_eq!(set.contains(n), plain.contains(&n));
        }
        let spans: Vec<_> = set.spans().collect();
        prop_assert_eq!(&spans, &spans_of(plain.iter().copied()));
        let missing: Vec<_> = set.missing_spans(below).collect();
        prop_assert_eq!(missing, spans_of((0..below).filter(|n| !plain.contains(n))));
        prop_assert_eq!(&spans.into_iter().collect::<NumberSet>(), &set);
        prop_assert_eq!(NumberSet::read_from(&bytes_of(&set)).expect("its own bytes"), set);
    }

    #[test]
    fn damaged_bytes_are_no_panic(
        spans in prop::collection::vec((0..200_000_u64, 0..9_000_u64), 0..20),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let set: NumberSet = spans.into_iter().map(|(first, more)| (first, first + more)).collect();
        let mut bytes = bytes_of(&set);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = NumberSet::read_from(&bytes) {
            prop_assert!(!read.contains(read.low()));
        }
    }
}

#[test]
fn a_billion_in_order_need_no_memory() {
    let mut set = NumberSet::new();
    for first in (0..1_000_000_000).step_by(1_000_000) {
        assert_eq!(set.insert_span(first, first + 999_999), 1_000_000);
    }
    assert_eq!(set.low(), 1_000_000_000);
    assert_eq!(bytes_of(&set).len(), 16, "the mark and an empty bitmap");
}

#[test]
fn one_number_may_leave_a_billion() {
    let mut set: NumberSet = [(0, 999_999_999)].into_iter().collect();
    assert!(set.remove(17));
    assert_eq!((set.low(), set.len()), (17, 999_999_999));
    assert_eq!(set.missing_spans(1_000_000_000).collect::<Vec<_>>(), [(17, 17)]);
    assert!(bytes_of(&set).len() < 1 << 20);
    assert!(set.insert(17));
    assert_eq!(set.spans().collect::<Vec<_>>(), [(0, 999_999_999)]);
    assert_eq!(bytes_of(&set).len(), 16);
}

#[test]
fn spans_join_across_bitmaps() {
    let border = 1_u64 << 32;
    let mut set: NumberSet = [(border - 2, border + 2)].into_iter().collect();
    assert_eq!(set.spans().collect::<Vec<_>>(), [(border - 2, border + 2)]);
    assert_eq!(set.insert_span(0, border - 3), border - 2);
    assert_eq!(set.low(), border + 3);
}

#[test]
fn the_last_number_is_below_the_largest_word() {
    let mut set = NumberSet::new();
    assert!(!set.insert(u64::MAX));
    assert_eq!(set.insert_span(u64::MAX - 1, u64::MAX), 1);
    assert_eq!(set.missing_spans(u64::MAX).collect::<Vec<_>>(), [(0, u64::MAX - 2)]);
    assert_eq!(set.insert_span(0, u64::MAX), u64::MAX - 1);
    assert_eq!((set.low(), set.len()), (u64::MAX, u64::MAX));
    assert!(!set.insert(u64::MAX));
    assert_eq!(set.missing_spans(u64::MAX).count(), 0);
    assert_eq!(set.insert_span(5, 4), 0);
}

#[test]
fn bytes_of_no_set_are_refused() {
    let set: NumberSet = [(0, 9), (20, 29)].into_iter().collect();
    let good = bytes_of(&set);
    for cut in 0..good.len() {
        assert!(matches!(NumberSet::read_from(&good[..cut]), Err(SetError::Bitmap { found, .. }) if found == cut));
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(
        NumberSet::read_from(&longer),
        Err(SetError::Trailing { found: 1 })
    ));
    let mut higher = good;
    higher[0] = 20;
    assert!(matches!(
        NumberSet::read_from(&higher),
        Err(SetError::OutOfBounds { found: 20, low: 20 })
    ));
}
