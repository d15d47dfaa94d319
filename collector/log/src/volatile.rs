//! What a crash leaves of a folder and of a file of [`MemoryDisk`](super::memory::MemoryDisk).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Names = BTreeMap<String, Arc<Mutex<Content>>>;

/// The names in a folder: as they are, as they were at the last sync, and what has changed since.
#[derive(Default)]
pub(crate) struct Folder {
    pub(crate) names: Names,
    pub(crate) durable: Names,
    pending: Vec<NameChange>,
}

pub(crate) enum NameChange {
    Create(String, Arc<Mutex<Content>>),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create(name, content) => drop(names.insert(name.clone(), Arc::clone(content))),
            Self::Rename(from, to) => drop(names.remove(from).map(|content| names.insert(to.clone(), content))),
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

impl Folder {
    pub(crate) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    pub(crate) fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.names);
    }

    /// Keeps the first of the changes that were not synced, and of each file what it keeps itself.
    pub(crate) fn crash(&mut self, chance: &mut Chance) {
        let kept = chance.below(self.pending.len() + 1);
        for change in self.pending.drain(..).take(kept) {
            change.apply(&mut self.durable);
        }
        self.names.clone_from(&self.durable);
        for content in self.names.values() {
            hold(content).crash(chance);
        }
    }
}

/// The bytes of a file: as they are, as they were at the last sync, and what has changed since.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) durable: Vec<u8>,
    pending: Vec<ByteChange>,
    /// How many of the changes a sync covers that is not done.
    syncing: usize,
}

pub(crate) enum ByteChange {
    Append(Vec<u8>),
    SetLen(usize),
}

impl ByteChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Append(more) => bytes.extend_from_slice(more),
            Self::SetLen(length) => bytes.resize(*length, 0),
        }
    }
}

impl Content {
    pub(crate) fn durable(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            pending: Vec::new(),
            syncing: 0,
        }
    }

    pub(crate) fn change(&mut self, change: ByteChange) {
        change.apply(&mut self.bytes);
        self.pending.push(change);
    }

    /// A sync begins: it covers what has changed so far.
    pub(crate) fn begin_sync(&mut self) {
        self.syncing = self.pending.len();
    }

    /// The sync is done.
    pub(crate) fn end_sync(&mut self) {
        for change in self.pending.drain(..std::mem::take(&mut self.syncing)) {
            change.apply(&mut self.durable);
        }
    }

    /// Keeps a beginning of what was not synced, cut at any byte, at times with zeros at its end: some file systems
    /// make the new length durable before the bytes.
    pub(crate) fn crash(&mut self, chance: &mut Chance) {
        let whole = chance.below(self.pending.len() + 1);
        let from = self.durable.len();
        self.syncing = 0;
        for (at, change) in self.pending.drain(..).enumerate() {
            match change {
                change if at < whole => change.apply(&mut self.durable),
                ByteChange::Append(more) if at == whole => {
                    let kept = chance.below(more.len() + 1);
                    self.durable.extend(more.into_iter().take(kept));
                }
                _ => {}
            }
        }
        if chance.below(4) == 0 {
            let unsynced = self.durable.len().saturating_sub(from);
            let zeros = chance.below(unsynced + 1);
            let length = self.durable.len();
            self.durable.truncate(length - zeros);
            self.durable.resize(length, 0);
        }
        self.bytes.clone_from(&self.durable);
    }
}

/// Numbers that follow from a seed (`SplitMix64`).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below this bound.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as usize % bound.max(1)
    }
}

pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
