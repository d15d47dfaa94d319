//! Reading everything back before it is called complete.

use std::collections::HashMap;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{slice, thread};

use crate::frame::Placed;
use crate::index::{Run, RunIndex};
use crate::scan::Frame;
use crate::{LogError, LogReader};

/// What the disk has lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Regions of segments that hold no whole record.
    pub regions: u64,
    /// Bytes of these regions.
    pub bytes: u64,
    /// Records that are missing, as far as the sequence tells.
    pub records: u64,
}

impl Damage {
    /// Whether nothing was found.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn add(&mut self, regions: &[Range<u64>], records: u64) {
        self.regions += regions.len() as u64;
        self.bytes += regions.iter().map(|region| region.end - region.start).sum::<u64>();
        self.records += records;
    }
}

/// What reading a segment back has shown.
enum Segment {
    /// Its header is damaged.
    Headless,
    Read {
        /// From its first record to the one after its last.
        sequences: Range<u64>,
        /// The regions that hold no whole record.
        damage: Vec<Range<u64>>,
        /// Records that are missing inside.
        lost: u64,
    },
}

/// The numbers of records that a later segment settled again, by segment and offset.
type Shadowed = HashMap<u32, HashMap<u64, Vec<Range<u64>>>>;

impl LogReader {
    /// Reads every record back from the disk and checks it. `each` is given the whole ones in the order of the log,
    /// with the numbers for which they count: every number comes at most once. A number that does not come has no
    /// whole record and must run again. Where damage is found the index is mended, so that nothing points there;
    /// a number that an older record has settled as well comes again at the next verification. Of a segment whose header
    /// is damaged no record counts, since opening the log will not believe it. The damage itself
    /// stays on the disk and is counted each time, also when its numbers have long been settled anew.
    pub fn verify(&self, mut each: impl FnMut(&[u8], &[Placed])) -> Result<Damage, LogError> {
        let shadowed = self.shadowed()?;
        let segments = self.shared.read().segments();
        let read = segments
            .iter()
            .map(|(number, _)| self.read_segment(*number, &shadowed, &mut each));
        let segments = read.collect::<Result<_, _>>()?;
        self.weigh(segments)
    }

    /// The same on several threads, each of which reads whole segments: `each` is given the records of a segment in order, those
    /// of different segments in any.
    pub fn verify_on(
        &self,
        threads: NonZero<usize>,
        each: impl Fn(&[u8], &[Placed]) + Sync,
    ) -> Result<Damage, LogError> {
        let segments = self.shared.read().segments();
        let threads = threads.get().min(segments.len());
        if threads < 2 {
            return self.verify(each);
        }
        let shadowed = self.shadowed()?;
        let next = AtomicUsize::new(0);
        let read = || -> Result<Vec<(u32, Segment)>, LogError> {
            let mut read = Vec::new();
            while let Some((number, _)) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                read.push(self.read_segment(*number, &shadowed, &mut |record, placed| each(record, placed))?);
            }
            Ok(read)
        };
        let read: Result<Vec<_>, _> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
            let join =
                |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            threads.into_iter().map(join).collect()
        });
        let mut segments: Vec<_> = read?.into_iter().flatten().collect();
        segments.sort_unstable_by_key(|(number, _)| *number);
        self.weigh(segments)
    }

    fn read_segment(
        &self,
        number: u32,
        shadowed: &Shadowed,
        each: &mut impl FnMut(&[u8], &[Placed]),
    ) -> Result<(u32, Segment), LogError> {
        if !self.shared.is_header_whole(number)? {
            return Ok((number, Segment::Headless));
        }
        // The index may know more than the scan will see, never less.
        let mut scanner = self.shared.scan(number)?;
        let mut index = self.runs_of(number)?;
        for (offset, ranges) in shadowed.get(&number).into_iter().flatten() {
            for range in ranges {
                index.remove(*offset, range);
            }
        }
        let first = scanner.sequence();
        let mut counting = Vec::new();
        while let Some(frame) = scanner.next()? {
            counting.clear();
            counted(&index, &frame, &mut counting);
            each(frame.payload, &counting);
        }
        let segment = Segment::Read {
            sequences: first..scanner.sequence(),
            damage: scanner.damage,
            lost: scanner.lost,
        };
        Ok((number, segment))
    }

    /// Adds up what all segments have lost, and mends their indexes.
    fn weigh(&self, segments: Vec<(u32, Segment)>) -> Result<Damage, LogError> {
        let mut damage = Damage::default();
        let mut sequence = 0;
        for (number, segment) in segments {
            match segment {
                Segment::Headless => self.give_up(number, sequence, &mut damage)?,
                Segment::Read {
                    sequences,
                    damage: regions,
                    lost,
                } => {
                    damage.records += sequences.start.saturating_sub(sequence);
                    sequence = sequences.end;
                    damage.add(&regions, lost);
                    if !regions.is_empty() {
                        self.mend(number, &regions)?;
                    }
                }
            }
        }
        Ok(damage)
    }

    /// Counts all of a segment as lost, whose records nobody will believe when the log is opened next.
    fn give_up(&self, number: u32, sequence: u64, damage: &mut Damage) -> Result<(), LogError> {
        let (_, _, length) = self.shared.segment(number)?;
        let active = self.shared.read().active.position();
        let newest = active.segment == number;
        // Those of an older segment are counted where the next one begins.
        let records = if newest {
            active.sequence.saturating_sub(sequence)
        } else {
            0
        };
        damage.add(slice::from_ref(&(0..length)), records);
        if newest {
            self.shared.spoiled.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn shadowed(&self) -> Result<Shadowed, LogError> {
        let mut shadowed = Shadowed::new();
        let mut walk = self.in_order(0);
        while walk.next_run()?.is_some() {
            for (segment, offset, numbers) in walk.shadowed.drain(..) {
                shadowed
                    .entry(segment)
                    .or_default()
                    .entry(offset)
                    .or_default()
                    .push(numbers);
            }
        }
        Ok(shadowed)
    }

    fn runs_of(&self, segment: u32) -> Result<RunIndex, LogError> {
        {
            let catalog = self.shared.read();
            if catalog.active.number == segment {
                return Ok(catalog.active.index.clone());
            }
        }
        self.shared.with_index(segment, super::index_file::IndexFile::all)
    }

    /// Takes what lies in these regions out of the index.
    fn mend(&self, segment: u32, regions: &[Range<u64>]) -> Result<(), LogError> {
        {
            let mut catalog = self.shared.write();
            if catalog.active.number == segment {
                let lost = |run: &Run| regions.iter().any(|region| region.contains(&run.offset));
                catalog.active.index.retain(|run| !lost(run));
                return Ok(());
            }
        }
        self.shared.rebuild(segment)
    }
}

/// The parts of a record's runs for which the index names this very entry.
fn counted(index: &RunIndex, frame: &Frame<'_>, counting: &mut Vec<Placed>) {
    for placed in frame.placed {
        let mine = Run {
            placed: *placed,
            offset: frame.offset,
        };
        let named = index.from(placed.number).take_while(|run| run.number() < placed.end());
        let parts = named.filter_map(|run| run.from(placed.number)?.before(placed.end()));
        let here = parts.filter(|part| part.offset == mine.offset && part.placed.entry == mine.entry(part.number()));
        counting.extend(here.map(|part| part.placed));
    }
}
