//! How many bytes of unacked outcomes each worker link may have under way, so that the sum stays below the memory limit.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::LinkId;
use crate::limits::ALLOWANCE_LEAST;

/// Half of the memory is shared evenly; the other half is a reserve that one link at a time gets for an outcome larger
/// than its share, in turn.
#[derive(Clone, Debug)]
pub(crate) struct Allowances {
    memory: u64,
    /// Links of workers, with the allowance last told to each.
    told: BTreeMap<LinkId, u64>,
    holder: Option<(LinkId, u64)>,
    waiting: VecDeque<(LinkId, u64)>,
    /// A full disk stops everything.
    paused: bool,
}

impl Allowances {
    pub(crate) fn new(memory: u64) -> Self {
        Self {
            memory,
            told: BTreeMap::new(),
            holder: None,
            waiting: VecDeque::new(),
            paused: false,
        }
    }

    pub(crate) fn add(&mut self, link: LinkId) {
        self.told.entry(link).or_insert(0);
    }

    pub(crate) fn remove(&mut self, link: LinkId) {
        self.told.remove(&link);
        self.waiting.retain(|(waiting, _)| *waiting != link);
        if self.holder.is_some_and(|(holder, _)| holder == link) {
            self.holder = None;
            self.grant_reserve();
        }
    }

    fn share(&self) -> u64 {
        (self.memory / 2 / self.told.len().max(1) as u64).max(ALLOWANCE_LEAST)
    }

    /// A link says that its smallest waiting outcome of this size does not fit, or (`None`) that all fit.
    pub(crate) fn ask_reserve(&mut self, link: LinkId, blocked: Option<u64>) {
        self.waiting.retain(|(waiting, _)| *waiting != link);
        match blocked {
            Some(bytes) if bytes > self.share() && self.told.contains_key(&link) => {
                if self.holder.is_none_or(|(holder, _)| holder != link) {
                    self.waiting.push_back((link, bytes.min(self.memory / 2)));
                }
            }
            _ => self.release(link),
        }
        self.grant_reserve();
    }

    /// A message of this many bytes came in: the reserve passes on once it was used.
    pub(crate) fn received(&mut self, link: LinkId, bytes: u64) {
        if bytes > self.share() {
            self.release(link);
        }
    }

    fn release(&mut self, link: LinkId) {
        if self.holder.is_some_and(|(holder, _)| holder == link) {
            self.holder = None;
        }
        self.grant_reserve();
    }

    fn grant_reserve(&mut self) {
        if self.holder.is_none() {
            self.holder = self.waiting.pop_front();
        }
    }

    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(crate) fn allowance(&self, link: LinkId) -> u64 {
        match self.holder {
            _ if self.paused => 0,
            Some((holder, bytes)) if holder == link => bytes.max(self.share()),
            _ => self.share(),
        }
    }

    /// The next link whose allowance differs from what it was told.
    pub(crate) fn poll_change(&mut self) -> Option<LinkId> {
        let link = self
            .told
            .iter()
            .find(|(link, told)| self.allowance(**link) != **told)
            .map(|(link, _)| *link)?;
        self.tell(link);
        Some(link)
    }

    /// The allowance, to be sent now.
    pub(crate) fn tell(&mut self, link: LinkId) -> u64 {
        let allowance = self.allowance(link);
        if let Some(told) = self.told.get_mut(&link) {
            *told = allowance;
        }
        allowance
    }
}
