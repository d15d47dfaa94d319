//! What the logs of the corpus hold: each record tells which log and place it is of, so that any record that comes back
//! can be compared with what was appended.

use harmony_log::{Placed, Replay, ReplayError};

/// The record at a place of the log with this salt.
pub(crate) fn record(salt: u8, at: u64) -> Vec<u8> {
    let length = 9 + usize::try_from(at * 37 % 300).expect("below 300");
    let head = [&[salt][..], &at.to_be_bytes()].concat();
    head.iter().copied().cycle().take(length).collect()
}

/// Which log and place a record is of. Panics unless it is as it was appended.
pub(crate) fn genuine(bytes: &[u8]) -> (u8, u64) {
    let (salt, at) = salt_and_count(bytes).unwrap_or_else(|| panic!("{bytes:?} was never appended"));
    assert_eq!(bytes, record(salt, at), "record {at} of log {salt}");
    (salt, at)
}

fn salt_and_count(bytes: &[u8]) -> Option<(u8, u64)> {
    let (salt, rest) = bytes.split_first()?;
    Some((*salt, u64::from_be_bytes(*rest.first_chunk()?)))
}

/// What a record settles: five numbers in two runs, and every seventh nothing.
pub(crate) fn placement(at: u64) -> Vec<Placed> {
    if at % 7 == 6 {
        return Vec::new();
    }
    let run = |number, count, entry| Placed { number, count, entry };
    vec![run(at * 3, 3, 0), run(1_000_000 - 2 * at, 2, 3)]
}

/// Whether this entry of the record at a place settles a number.
pub(crate) fn is_settled(at: u64, number: u64, entry: u32) -> bool {
    let step = |run: &Placed| {
        number
            .checked_sub(run.number)
            .filter(|step| *step < u64::from(run.count))
    };
    placement(at)
        .iter()
        .any(|run| step(run).is_some_and(|step| u64::from(entry) == u64::from(run.entry) + step))
}

/// What a replay has brought back.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The salt, and how many records the checkpoint stands for.
    pub(crate) checkpoint: Option<(u8, u64)>,
    /// The salt and the place of each record.
    pub(crate) records: Vec<(u8, u64)>,
}

impl Replay for Replayed {
    fn checkpoint(&mut self, state: &[u8]) -> Result<(), ReplayError> {
        assert!(
            self.checkpoint.is_none() && self.records.is_empty(),
            "one checkpoint, first"
        );
        assert_eq!(state.len(), 9, "{state:?} was never the state of a checkpoint");
        self.checkpoint = salt_and_count(state);
        Ok(())
    }

    fn record(&mut self, record: &[u8], placed: &[Placed]) -> Result<(), ReplayError> {
        let (salt, at) = genuine(record);
        assert_eq!(placed, placement(at), "placement of record {at}");
        if let Some((other, last)) = self.records.last() {
            assert!(
                salt == *other && at > *last,
                "record {at} of log {salt} after {last} of {other}"
            );
        }
        self.records.push((salt, at));
        Ok(())
    }
}

impl Replayed {
    /// Whether no record is missing between those that are there.
    pub(crate) fn is_whole(&self) -> bool {
        let from = self.checkpoint.map_or(0, |(_, count)| count);
        self.records
            .iter()
            .map(|(_, at)| *at)
            .eq(from..from + self.records.len() as u64)
    }

    /// A record that the log may go on with.
    pub(crate) fn next(&self) -> (u8, u64) {
        let last = self.records.last().map(|(salt, at)| (*salt, at + 1));
        last.or(self.checkpoint).unwrap_or((9, 0))
    }
}
