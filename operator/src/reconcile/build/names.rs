//! The names of a batch's objects: short enough for every place that Kubernetes puts them in, and never shared by two
//! batches, not even by one that was deleted and made again.

use harmony_api::BatchName;
use harmony_api::limits::MAX_PARALLELISM;
use harmony_protocol::ids::BatchUid;

/// Every name begins with it.
const PREFIX: &str = "hb-";
/// Characters of the batch's name that are kept, for people.
const KEPT: usize = 35;
/// Characters of the batch's uid, which tell batches of one name apart: 32 random bits.
const UID: usize = 8;
/// Digits of an ordinal: more than a batch may have workers.
const ORDINAL: usize = 4;
/// Digits of a generation, and how many generations they tell apart: one a second for three years.
const GENERATION: usize = 8;
const GENERATIONS: u64 = 100_000_000;
/// The longest DNS-1123 label: names of Services, and what a pod's hostname is made of.
const LABEL: usize = 63;

const _: () = assert!(MAX_PARALLELISM <= 10_000, "an ordinal has four digits");
const _: () = assert!(PREFIX.len() + KEPT + 1 + UID + "-w-".len() + ORDINAL + 1 + GENERATION <= LABEL);

/// The names of one batch's objects, each a DNS-1123 label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    stem: String,
}

impl Names {
    /// The names for a batch.
    pub fn new(name: &BatchName, uid: BatchUid) -> Self {
        let kept: String = name.as_str().replace('.', "-").chars().take(KEPT).collect();
        Self {
            stem: format!("{PREFIX}{kept}-{}", short_uid(uid)),
        }
    }

    /// The collector: its pod, its Service, its claim and its policy.
    pub fn collector(&self) -> String {
        format!("{}-c", self.stem)
    }

    /// What concerns all workers: their policy and their disruption budget.
    pub fn workers(&self) -> String {
        format!("{}-w", self.stem)
    }

    /// One worker pod. Generations of more than eight digits begin again from 0: the pod of that name is long gone.
    pub fn worker_pod(&self, ordinal: u32, generation: u64) -> String {
        format!("{}-w-{ordinal}-{}", self.stem, generation % GENERATIONS)
    }

    /// The Secret with the collector's certificate.
    pub fn collector_certificate(&self) -> String {
        format!("{}-c-tls", self.stem)
    }

    /// The Secret with the certificate that all workers share.
    pub fn worker_certificate(&self) -> String {
        format!("{}-w-tls", self.stem)
    }
}

/// The value of the label with the batch's name. A name too long for a label ends in the batch's uid instead.
pub fn label_value(name: &BatchName, uid: BatchUid) -> String {
    let name = name.as_str();
    if name.len() <= LABEL {
        return name.to_owned();
    }
    let kept: String = name.chars().take(LABEL - UID - 1).collect();
    format!("{kept}-{}", short_uid(uid))
}

fn short_uid(uid: BatchUid) -> String {
    uid.to_string().chars().take(UID).collect()
}
