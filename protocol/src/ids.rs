//! Names of the parties, the batches and the links between them.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The identity of a batch: the uid of the custom resource, or a `UUIDv7` for a local batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchUid(pub Uuid);

/// A random number that one process draws at its start; a restarted process has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub Uuid);

/// A random number that one ventilator draws for each batch it serves; with the epoch it fences others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub Uuid);

/// The identity of one collector log; a log that was lost and begun anew has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub Uuid);

/// The fencing number of a batch, raised whenever a ventilator takes it over. 0 asks and claims nothing.
pub type Epoch = u64;

/// A batch's short name on one link, chosen by the party that sends START or BIND, never reused on that link.
/// 0 belongs to messages that concern the link itself.
pub type Alias = u32;

/// Which try at a number this is, from 1.
pub type Attempt = u32;

/// One link of this process. Links that a machine dials are numbered by the machine, accepted ones by the transport.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

impl LinkId {
    const ACCEPTED: u64 = 1 << 63;

    /// The `n`-th link that this process dials.
    pub fn dialled(n: u64) -> Self {
        Self(n & !Self::ACCEPTED)
    }

    /// The `n`-th link that this process accepts.
    pub fn accepted(n: u64) -> Self {
        Self(n | Self::ACCEPTED)
    }

    /// Whether the other side opened this link.
    pub fn is_accepted(self) -> bool {
        self.0 & Self::ACCEPTED != 0
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.is_accepted() { "accepted" } else { "dialled" };
        write!(f, "{side}-{}", self.0 & !Self::ACCEPTED)
    }
}

macro_rules! display_inner {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_inner!(BatchUid, ProcessId, InstanceId, LogId);
