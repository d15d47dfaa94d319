//! Which endpoints a machine keeps a link to, and when it dials them again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ids::LinkId;
use crate::limits::{REDIAL_FIRST, REDIAL_MOST};

#[derive(Clone, Debug)]
struct Target {
    endpoint: String,
    stage: Stage,
    /// Failures in a row; a greeting resets it.
    failures: u32,
}

#[derive(Clone, Debug)]
enum Stage {
    Waiting(Instant),
    Linked(LinkId),
}

/// The endpoints that a machine wants a link to, under a key of its own.
#[derive(Clone, Debug)]
pub(crate) struct Dialler<K> {
    targets: BTreeMap<K, Target>,
    links: BTreeMap<LinkId, K>,
    next_link: u64,
    random: fastrand::Rng,
}

impl<K: Ord + Clone> Dialler<K> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            targets: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 1,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Keeps a link to this endpoint from now on. Returns the link to close if the key had another endpoint.
    pub(crate) fn want(&mut self, now: Instant, key: K, endpoint: String) -> Option<LinkId> {
        match self.targets.get_mut(&key) {
            Some(target) if target.endpoint == endpoint => None,
            Some(target) => {
                target.endpoint = endpoint;
                target.failures = 0;
                match target.stage {
                    Stage::Linked(link) => Some(link),
                    Stage::Waiting(_) => {
                        target.stage = Stage::Waiting(now);
                        None
                    }
                }
            }
            None => {
                self.targets.insert(
                    key,
                    Target {
                        endpoint,
                        stage: Stage::Waiting(now),
                        failures: 0,
                    },
                );
                None
            }
        }
    }

    /// Stops dialling. Returns the link to close.
    pub(crate) fn forget(&mut self, key: &K) -> Option<LinkId> {
        match self.targets.remove(key)?.stage {
            Stage::Linked(link) => Some(link),
            Stage::Waiting(_) => None,
        }
    }

    /// The dials that are due.
    pub(crate) fn poll_dial(&mut self, now: Instant) -> Option<(LinkId, String)> {
        let (key, target) = self
            .targets
            .iter_mut()
            .find(|(_, target)| matches!(target.stage, Stage::Waiting(due) if due <= now))?;
        let link = LinkId::dialled(self.next_link);
        self.next_link += 1;
        target.stage = Stage::Linked(link);
        self.links.insert(link, key.clone());
        Some((link, target.endpoint.clone()))
    }

    /// The peer has greeted: the next failure starts from the shortest pause.
    pub(crate) fn greeted(&mut self, link: LinkId) {
        if let Some(target) = self.links.get(&link).and_then(|key| self.targets.get_mut(key)) {
            target.failures = 0;
        }
    }

    /// A link is gone: it is dialled again after a jittered pause. Returns the key it was for.
    pub(crate) fn closed(&mut self, now: Instant, link: LinkId) -> Option<K> {
        let key = self.links.remove(&link)?;
        if let Some(target) = self.targets.get_mut(&key)
            && matches!(target.stage, Stage::Linked(current) if current == link)
        {
            let pause = (REDIAL_FIRST * 2_u32.saturating_pow(target.failures.min(16))).min(REDIAL_MOST);
            target.failures = target.failures.saturating_add(1);
            target.stage = Stage::Waiting(now + jittered(&mut self.random, pause));
        }
        Some(key)
    }

    pub(crate) fn key(&self, link: LinkId) -> Option<&K> {
        self.links.get(&link)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.targets.keys()
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.targets
            .values()
            .filter_map(|target| match target.stage {
                Stage::Waiting(due) => Some(due),
                Stage::Linked(_) => None,
            })
            .min()
    }
}

/// Between half and the whole of a pause, so that many peers do not come back in step.
pub(crate) fn jittered(random: &mut fastrand::Rng, pause: Duration) -> Duration {
    pause.mul_f64(0.5 + random.f64() / 2.0)
}
