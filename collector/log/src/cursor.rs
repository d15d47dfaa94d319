//! Outcomes by their place in the log.

use std::collections::VecDeque;

use bytes::Bytes;
use harmony_protocol::collector::{Outcomes, Record};
use harmony_protocol::wire::ResultEntry;

use crate::{Location, LogError, LogReader};

/// What is recorded of an attempt.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The name of the worker that ran it.
    pub worker: &'a str,
    /// The attempt and how it ended.
    pub entry: ResultEntry,
    /// Its output, unless that has a file of its own.
    pub output: Bytes,
    /// The end of its stderr.
    pub log: Bytes,
}

/// Decoded records kept at hand: numbers in order come from as many records as there are workers and slots at once.
const RECORDS_KEPT: usize = 128;

/// A record with the place of each entry's bytes.
struct Decoded {
    place: (u32, u64),
    outcomes: Outcomes,
    /// Where the output of each entry begins.
    starts: Vec<usize>,
}

/// Finds outcomes by location and decodes each record once, as long as numbers ascend.
pub struct Cursor<'a> {
    reader: &'a LogReader,
    kept: VecDeque<Decoded>,
}

impl<'a> Cursor<'a> {
    /// A cursor that has read nothing yet.
    pub fn new(reader: &'a LogReader) -> Self {
        Self {
            reader,
            kept: VecDeque::new(),
        }
    }

    /// What is recorded at a location; `None` if the record holds no outcomes.
    pub fn outcome(&mut self, location: Location) -> Result<Option<Outcome<'_>>, LogError> {
        let place = location.place();
        let kept = self.kept.iter().position(|decoded| decoded.place == place);
        let index = match kept {
            Some(index) => index,
            None if self.decode(location)? => 0,
            None => return Ok(None),
        };
        Ok(self
            .kept
            .get(index)
            .and_then(|decoded| decoded.entry(location.entry as usize)))
    }

    fn decode(&mut self, location: Location) -> Result<bool, LogError> {
        let Ok(Record::Outcomes(outcomes)) = Record::decode(&self.reader.read(location)?) else {
            return Ok(false);
        };
        let mut at = 0;
        let starts = outcomes.results.entries.iter().map(|entry| {
            let start = at;
            at += entry.inline() as usize + entry.log as usize;
            start
        });
        let starts = starts.collect();
        self.kept.push_front(Decoded {
            place: location.place(),
            outcomes,
            starts,
        });
        self.kept.truncate(RECORDS_KEPT);
        Ok(true)
    }
}

impl Decoded {
    fn entry(&self, position: usize) -> Option<Outcome<'_>> {
        let results = &self.outcomes.results;
        let (entry, start) = (*results.entries.get(position)?, *self.starts.get(position)?);
        let middle = start + entry.inline() as usize;
        let end = middle + entry.log as usize;
        (end <= results.bytes.len()).then(|| Outcome {
            worker: &self.outcomes.worker,
            entry,
            output: results.bytes.slice(start..middle),
            log: results.bytes.slice(middle..end),
        })
    }
}
