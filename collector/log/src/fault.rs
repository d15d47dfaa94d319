//! A disk that fails at a chosen call, around any other.

use std::any::Any;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, DiskFile, Mode};

/// What goes wrong at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails, after having written so many bytes if it is an append; the calls after it work.
    Error {
        /// The kind of its error.
        kind: io::ErrorKind,
        /// The bytes written, if it appends.
        written: usize,
    },
    /// The process dies in the call, having written so many bytes if it is an append; every later call fails.
    Crash {
        /// The bytes written, if it appends.
        written: usize,
    },
}

/// Counts the calls of a disk and its files, and fails at one of them. Clones count together.
#[derive(Clone)]
pub struct FaultDisk {
    inner: Arc<dyn Disk>,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    calls: AtomicU64,
    crashed: AtomicBool,
    fault: Mutex<Option<(u64, Fault)>>,
}

impl Plan {
    /// Counts a call. `Some` if it is to fail.
    fn step(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.crashed.load(Ordering::SeqCst) {
            return Some(Fault::Crash { written: 0 });
        }
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = fault.filter(|(at, _)| *at == call).map(|(_, fault)| fault);
        if let Some(Fault::Crash { .. }) = fault {
            self.crashed.store(true, Ordering::SeqCst);
        }
        fault
    }

    fn call<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.step().map_or_else(call, |fault| Err(fault.error()))
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Error { kind, .. } => kind.into(),
            Self::Crash { .. } => io::Error::other("the process has crashed"),
        }
    }

    fn written(self) -> usize {
        match self {
            Self::Error { written, .. } | Self::Crash { written } => written,
        }
    }
}

impl FaultDisk {
    /// A disk that passes every call on.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            plan: Arc::default(),
        }
    }

    /// Has the call of this number fail, the first of all being 0.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        *self.plan.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((call, fault));
    }

    /// What was to fail works.
    pub fn fail_no_more(&self) {
        *self.plan.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.plan.calls.load(Ordering::SeqCst)
    }

    /// Whether the process is dead.
    pub fn crashed(&self) -> bool {
        self.plan.crashed.load(Ordering::SeqCst)
    }
}

impl Disk for FaultDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.plan.call(|| self.inner.create_dir(path))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.plan.call(|| self.inner.open(path, mode))?;
        Ok(Arc::new(FaultFile {
            inner: file,
            plan: Arc::clone(&self.plan),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.call(|| self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plan.call(|| self.inner.remove(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.plan.call(|| self.inner.list(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.plan.call(|| self.inner.sync_dir(path))
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        self.plan.call(|| self.inner.available(path))
    }

    fn capacity(&self, path: &Path) -> io::Result<u64> {
        self.plan.call(|| self.inner.capacity(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.plan.call(|| self.inner.lock(path))
    }
}

struct FaultFile {
    inner: Arc<dyn DiskFile>,
    plan: Arc<Plan>,
}

impl DiskFile for FaultFile {
    fn append(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let Some(fault) = self.plan.step() else {
            return self.inner.append(parts);
        };
        let bytes = parts.iter().flat_map(|part| part.iter().copied());
        let beginning: Vec<u8> = bytes.take(fault.written()).collect();
        self.inner.append(&mut [IoSlice::new(&beginning)])?;
        Err(fault.error())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.plan.call(|| self.inner.read_at(offset, buffer))
    }

    fn sync(&self) -> io::Result<()> {
        self.plan.call(|| self.inner.sync())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.plan.call(|| self.inner.set_len(length))
    }

    fn len(&self) -> io::Result<u64> {
        self.plan.call(|| self.inner.len())
    }
}
