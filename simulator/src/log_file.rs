//! The files of a log, read by docs/log.md alone: what the log's own code says of itself is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use crc32c::{crc32c, crc32c_append};
use harmony_log::memory::MemoryDisk;
use harmony_protocol::ids::{BatchUid, Epoch};

use crate::facts::Facts;
use crate::log_record::Record;
use crate::tasks::Tasks;

/// Bytes of a segment's header.
pub const HEADER: usize = 64;
/// Bytes of a frame's header.
const FRAME: usize = 32;
/// Bytes of a run.
const RUN: usize = 16;
/// Frames begin at multiples of this.
const ALIGN: usize = 8;

/// What is durable of one log, read as far as it has come.
#[derive(Debug)]
pub struct LogFile {
    dir: PathBuf,
    tasks: Tasks,
    facts: Facts,
    /// How far each segment was read.
    read: BTreeMap<u32, usize>,
    /// The lowest sequence that the next record may have.
    sequence: u64,
    /// Where each record lies that was read: segment and offset.
    places: BTreeMap<(u32, usize), Place>,
}

/// What is lost with a record.
#[derive(Debug)]
struct Place {
    end: usize,
    numbers: Vec<u64>,
    claim: Option<Epoch>,
}

/// A segment whose header is whole.
struct Segment {
    /// The checksum of log id and segment number.
    seed: u32,
}

struct Frame {
    sequence: u64,
    end: usize,
    record: Record,
}

impl LogFile {
    /// The log of a batch in a folder, of which nothing was read.
    pub fn new(dir: &Path, tasks: &Tasks) -> Self {
        Self {
            dir: dir.to_path_buf(),
            tasks: tasks.clone(),
            facts: Facts::default(),
            read: BTreeMap::new(),
            sequence: 0,
            places: BTreeMap::new(),
        }
    }

    /// What was read.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether this is the segment that is written.
    pub fn is_newest(&self, segment: u32) -> bool {
        self.read.last_key_value().is_none_or(|(newest, _)| *newest == segment)
    }

    /// Reads on from where it was. A record that is not whole is not durable yet.
    pub fn read_on(&mut self, disk: &MemoryDisk) {
        let newest = self.read.last_key_value().map_or(0, |(number, _)| *number);
        for number in segments(disk, &self.dir).range(newest..) {
            self.read_segment(disk, *number, false);
        }
    }

    /// Reads everything again, after the log was opened. Panics if a record is gone that was durable and not damaged.
    pub fn reread(&mut self, disk: &MemoryDisk) {
        let fresh = self.facts.to_reread();
        let before = std::mem::replace(&mut self.facts, fresh);
        self.read.clear();
        self.places.clear();
        self.sequence = 0;
        for number in segments(disk, &self.dir) {
            self.read_segment(disk, number, true);
        }
        self.facts.follows(&before);
    }

    /// A byte of a segment was damaged. What it says may be forgotten from now on.
    pub fn damage(&mut self, segment: u32, byte: usize) {
        let hit = |(offset, place): (usize, &Place)| byte < HEADER || (offset..place.end).contains(&byte);
        let places = self.places.range((segment, 0)..=(segment, usize::MAX));
        for (_, place) in places.filter(|((_, offset), place)| hit((*offset, place))) {
            self.facts.doubt(&place.numbers, place.claim);
        }
    }

    /// The file of an output was damaged.
    pub fn damage_output(&mut self, number: u64) {
        self.facts.doubt(&[number], None);
    }

    /// Reads a segment from where it was; `step_over` says whether to look for records behind damage.
    fn read_segment(&mut self, disk: &MemoryDisk, number: u32, step_over: bool) {
        let path = segment_path(&self.dir, number);
        let Some(segment) = Segment::read(disk, &path, number, self.tasks.uid) else {
            assert!(step_over, "segment {number} has no header");
            return;
        };
        let from = *self.read.entry(number).or_insert(HEADER);
        let bytes = Bytes::from(disk.durable(&path, from).unwrap_or_default());
        let mut at = 0;
        while at < bytes.len() {
            match self.frame(&segment, from, &bytes, at) {
                Some(mut frame) => {
                    frame
                        .record
                        .fetch(|number| disk.durable(&output_path(&self.dir, number), 0));
                    self.sequence = frame.sequence + 1;
                    self.note(number, from + at, from + frame.end, &frame.record);
                    at = frame.end;
                }
                None if step_over => at = (at + 1).next_multiple_of(ALIGN),
                None => break,
            }
        }
        self.read.insert(number, from + at.min(bytes.len()));
    }

    fn note(&mut self, segment: u32, offset: usize, end: usize, record: &Record) {
        self.facts.read(record, &self.tasks);
        let claim = match record {
            Record::Claim(claim) => Some(claim.epoch),
            _ => None,
        };
        let numbers = record.numbers();
        self.places.insert((segment, offset), Place { end, numbers, claim });
    }

    /// The whole frame at a place of these bytes, which begin at `from` in their segment.
    fn frame(&self, segment: &Segment, from: usize, bytes: &Bytes, at: usize) -> Option<Frame> {
        let head = bytes.get(at..at + FRAME)?;
        let sum = crc32c_append(segment.seed, &((from + at) as u64).to_be_bytes());
        let sum = crc32c_append(sum, &head[..FRAME - 4]);
        let mut fields = head;
        let magic = fields.get_u32();
        let (length, complement, runs) = (fields.get_u32(), fields.get_u32(), fields.get_u32() as usize);
        let (sequence, body_sum, head_sum) = (fields.get_u64(), fields.get_u32(), fields.get_u32());
        let right = magic == u32::from_be_bytes(*b"HREC") && complement == !length && head_sum == sum;
        if !right || sequence < self.sequence {
            return None;
        }
        let (begin, length) = (at + FRAME, length as usize);
        let end = begin + (length + runs * RUN).next_multiple_of(ALIGN);
        if crc32c(bytes.get(begin..end)?) != body_sum {
            return None;
        }
        let record = Record::decode(bytes.slice(begin..begin + length));
        check_runs(&record, bytes.slice(begin + length..end), runs);
        Some(Frame { sequence, end, record })
    }
}

/// The runs of a frame name exactly the outcomes that settle their numbers.
fn check_runs(record: &Record, mut runs: Bytes, count: usize) {
    let settling =
        |(at, outcome): (usize, &crate::log_record::Outcome)| outcome.settles().then_some((outcome.number, at));
    let expected: Vec<(u64, usize)> = match record {
        Record::Outcomes(outcomes) => outcomes.iter().enumerate().filter_map(settling).collect(),
        _ => Vec::new(),
    };
    let named: Vec<(u64, usize)> = (0..count)
        .flat_map(|_| {
            let (number, count, entry) = (runs.get_u64(), runs.get_u32(), runs.get_u32() as usize);
            (number..number + u64::from(count)).zip(entry..)
        })
        .collect();
    assert_eq!(named, expected, "the runs of a record");
}

impl Segment {
    fn read(disk: &MemoryDisk, path: &Path, number: u32, uid: BatchUid) -> Option<Self> {
        let bytes = disk.durable(path, 0)?;
        let head = bytes.get(..HEADER)?;
        let (front, mut sum) = head.split_at(HEADER - 4);
        if sum.get_u32() != crc32c(front) || &head[..8] != b"HRMNYLOG" {
            return None;
        }
        let mut fields = &front[8..];
        assert_eq!(fields.get_u32(), 1, "the format of {}", path.display());
        assert_eq!(fields.get_u32(), number, "the number of {}", path.display());
        assert_eq!(fields.get_u128(), uid.0.as_u128(), "the batch of {}", path.display());
        let log = fields.get_u128();
        let seed = crc32c_append(crc32c(&log.to_be_bytes()), &number.to_be_bytes());
        Some(Self { seed })
    }
}

fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08x}.log"))
}

/// The folder of outputs that have a file of their own.
pub fn outputs_dir(dir: &Path) -> PathBuf {
    dir.join("outputs")
}

fn output_path(dir: &Path, number: u64) -> PathBuf {
    outputs_dir(dir).join(number.to_string())
}

/// The number whose output a file is.
pub fn output_number(name: &str) -> Option<u64> {
    name.parse().ok()
}

/// The number of the segment that a file is.
pub fn segment_number(name: &str) -> Option<u32> {
    u32::from_str_radix(name.strip_suffix(".log")?, 16).ok()
}

fn segments(disk: &MemoryDisk, dir: &Path) -> BTreeSet<u32> {
    let names = disk.durable_names(dir);
    names.iter().filter_map(|name| segment_number(name)).collect()
}
