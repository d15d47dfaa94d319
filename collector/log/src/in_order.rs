//! A walk over all settled numbers in order: the indexes of all segments, merged.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::index::Run;
use crate::shared::Shared;
use crate::{Location, LogError};

/// Numbers in order. It ends after an error.
pub struct InOrder {
    shared: Arc<Shared>,
    /// One head per segment that is not used up.
    heads: BinaryHeap<Reverse<Head>>,
    /// Runs that were read and not reached, by segment.
    ahead: HashMap<u32, VecDeque<Run>>,
    current: Option<(u32, Run)>,
    /// Numbers of records that a later record settled again.
    pub(crate) shadowed: Vec<(u32, u64, Range<u64>)>,
}

/// The next run of a segment. Those of later segments come first, for they count.
struct Head {
    number: u64,
    segment: Reverse<u32>,
    /// Not read yet if `None`: the segment holds nothing below `number`.
    run: Option<Run>,
}

impl Head {
    fn key(&self) -> (u64, Reverse<u32>) {
        (self.number, self.segment)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl InOrder {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        let segments = shared.read().segments();
        let head = |(segment, first): (u32, u64)| {
            Reverse(Head {
                number: first.max(from),
                segment: Reverse(segment),
                run: None,
            })
        };
        let heads = segments.into_iter().map(head).collect();
        Self {
            shared,
            heads,
            ahead: HashMap::new(),
            current: None,
            shadowed: Vec::new(),
        }
    }

    /// The next run that counts, without those parts that a later record settled again.
    pub(crate) fn next_run(&mut self) -> Result<Option<(u32, Run)>, LogError> {
        while let Some(Reverse(head)) = self.heads.pop() {
            let segment = head.segment.0;
            let Some(mut run) = head.run else {
                self.advance(segment, head.number)?;
                continue;
            };
            while let Some(Reverse(rival)) = self.heads.peek().filter(|rival| rival.0.number < run.end()) {
                let (number, other, known) = (rival.number, rival.segment.0, rival.run);
                if known.is_some() && other > segment {
                    break;
                }
                self.heads.pop();
                match known {
                    None => self.advance(other, number)?,
                    Some(known) => {
                        self.shadowed
                            .push((other, known.offset, number..known.end().min(run.end())));
                        self.resume(other, known.from(run.end()), known.end())?;
                    }
                }
            }
            // What is left in the way is of a later segment.
            let limit = self
                .heads
                .peek()
                .map_or(run.end(), |rival| rival.0.number.min(run.end()));
            let rest = run.from(limit);
            self.resume(segment, rest, limit)?;
            if let Some(before) = run.before(limit) {
                run = before;
                return Ok(Some((segment, run)));
            }
        }
        Ok(None)
    }

    /// Puts back what is left of a run, or goes on to the segment's next one.
    fn resume(&mut self, segment: u32, rest: Option<Run>, end: u64) -> Result<(), LogError> {
        match rest {
            Some(run) => {
                self.push(segment, run);
                Ok(())
            }
            None => self.advance(segment, end),
        }
    }

    /// Brings up the next run of a segment that settles numbers from this one on.
    fn advance(&mut self, segment: u32, from: u64) -> Result<(), LogError> {
        let ahead = self.ahead.entry(segment).or_default();
        if ahead.is_empty() {
            ahead.extend(self.shared.runs(segment, from)?);
        }
        while let Some(run) = ahead.pop_front() {
            if let Some(run) = run.from(from) {
                self.push(segment, run);
                return Ok(());
            }
        }
        self.ahead.remove(&segment);
        Ok(())
    }

    fn push(&mut self, segment: u32, run: Run) {
        self.heads.push(Reverse(Head {
            number: run.number(),
            segment: Reverse(segment),
            run: Some(run),
        }));
    }
}

impl Iterator for InOrder {
    type Item = Result<(u64, Location), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.current.is_none() {
            // Only verification asks which runs were passed over.
            self.shadowed.clear();
            match self.next_run() {
                Ok(next) => self.current = Some(next?),
                Err(error) => {
                    self.heads.clear();
                    return Some(Err(error));
                }
            }
        }
        let (segment, run) = self.current?;
        let number = run.number();
        self.current = run.from(number.saturating_add(1)).map(|rest| (segment, rest));
        Some(Ok((number, Location::of(segment, &run, number))))
    }
}
