//! The disk that the spools of one process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that all spools of a process may take together. Clones are the same.
#[derive(Clone, Debug)]
pub struct SpoolRoom(Arc<Room>);

#[derive(Debug)]
struct Room {
    limit: u64,
    taken: AtomicU64,
}

/// What one spool has taken of a [`SpoolRoom`], which gets it back when the share is dropped: drop it when the spool is
/// removed.
#[derive(Debug)]
pub struct SpoolShare {
    room: SpoolRoom,
    taken: AtomicU64,
}

impl SpoolRoom {
    /// Room for so many bytes.
    pub fn new(limit: u64) -> Self {
        let taken = AtomicU64::new(0);
        Self(Arc::new(Room { limit, taken }))
    }

    /// A share that has taken nothing yet.
    pub fn share(&self) -> SpoolShare {
        SpoolShare {
            room: self.clone(),
            taken: AtomicU64::new(0),
        }
    }
}

impl SpoolShare {
    /// Takes so many bytes more; `false` if there is no room for them, and then none is taken.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let Room { limit, taken } = &*self.room.0;
        let fits = |taken: u64| taken.checked_add(bytes).filter(|taken| taken <= limit);
        // The count alone is shared: nothing else is ordered by it.
        let grown = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if grown {
            self.taken.fetch_add(bytes, Ordering::Relaxed);
        }
        grown
    }

    /// The bytes that all spools may take together.
    pub(super) fn limit(&self) -> u64 {
        self.room.0.limit
    }
}

impl Drop for SpoolShare {
    fn drop(&mut self) {
        self.room.0.taken.fetch_sub(*self.taken.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_take_from_one_room_and_give_back() {
        let room = SpoolRoom::new(10);
        let (first, second) = (room.share(), room.share());
        assert!(first.take(6));
        assert!(!second.take(5), "only 4 are left");
        assert!(second.take(4));
        assert!(!second.take(1));
        drop(first);
        assert!(second.take(6), "6 came back");
        assert!(!second.take(u64::MAX), "no overflow");
        drop(second);
        assert!(room.share().take(10));
    }
}
