//! Who leads: the decisions of a candidate for a `Lease`, without a client and without a clock of its own.
//!
//! The rules are those of client-go: a lease counts as free when nobody is named in it, or when it did not change for
//! its whole duration as seen by the candidate's own clock, so that clocks of different machines are never compared.
//! Every write names the version that was read, so that of two candidates only one gets it.

use std::time::{Duration, Instant};

/// How long a lease that does not change is respected.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// How long a leader acts on its last renewal: shorter than [`LEASE`], so that it stops before another one begins.
pub(crate) const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How long a look at the lease, and a bid for it, may take together.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks at the lease.
pub(crate) const RETRY: Duration = Duration::from_secs(2);

/// The lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Who holds it; nobody if empty.
    pub(crate) holder: String,
    /// How often it went to another holder.
    pub(crate) transitions: i32,
    /// Changes with every write.
    pub(crate) version: String,
}

/// What a candidate is to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bid {
    /// How often the lease will have gone to another holder.
    pub(crate) transitions: i32,
    /// The version that must still be there; the lease is to be made if there is none.
    pub(crate) version: Option<String>,
    /// Whether the holder changes with it.
    pub(crate) takes: bool,
}

/// What a candidate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Another one leads, or nobody yet.
    Standby,
    /// This one leads.
    Leader,
    /// This one led and could not renew in time. It reconciles nothing; what runs goes on, since nobody else was seen.
    Unsure,
    /// This one led, and another one took over.
    Deposed,
}

/// A candidate.
#[derive(Debug)]
pub(crate) struct Election {
    identity: String,
    seen: Option<(Seen, Instant)>,
    /// When the last write that succeeded was sent.
    renewed: Option<Instant>,
}

impl Election {
    /// `identity` is different for every process.
    pub(crate) fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            renewed: None,
        }
    }

    /// Who this is.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The lease was read; `None` if there is none.
    pub(crate) fn handle_seen(&mut self, now: Instant, seen: Option<Seen>) {
        match (seen, &self.seen) {
            (Some(seen), Some((known, _))) if seen == *known => {}
            (seen, _) => self.seen = seen.map(|seen| (seen, now)),
        }
    }

    /// A write that was begun at `sent` succeeded; this is what it made.
    pub(crate) fn handle_won(&mut self, sent: Instant, seen: Seen) {
        self.renewed = Some(sent);
        self.seen = Some((seen, sent));
    }

    /// What to write, after a look.
    pub(crate) fn bid(&self, now: Instant) -> Option<Bid> {
        if self.role(now) == Role::Deposed {
            return None;
        }
        let Some((seen, since)) = &self.seen else {
            return Some(Bid {
                transitions: 0,
                version: None,
                takes: true,
            });
        };
        let mine = seen.holder == self.identity;
        let free = seen.holder.is_empty() || now >= *since + LEASE;
        (mine || free).then(|| Bid {
            transitions: seen.transitions + i32::from(!mine),
            version: Some(seen.version.clone()),
            takes: !mine,
        })
    }

    /// How long the next look may take: a slow server is waited for, but a leader must learn in time that it is none.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        let left = self
            .renewed
            .map(|sent| (sent + RENEW_WITHIN).saturating_duration_since(now));
        left.map_or(ANSWER_WITHIN, |left| left.clamp(RETRY, ANSWER_WITHIN))
    }

    /// What this candidate may do now.
    pub(crate) fn role(&self, now: Instant) -> Role {
        let Some(renewed) = self.renewed else {
            return Role::Standby;
        };
        match &self.seen {
            Some((seen, _)) if seen.holder != self.identity && !seen.holder.is_empty() => Role::Deposed,
            _ if now < renewed + RENEW_WITHIN => Role::Leader,
            _ => Role::Unsure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lease as an API server keeps it.
    #[derive(Default)]
    struct Server(Option<Seen>);

    impl Server {
        /// One round of a candidate; `reachable` says whether it gets through.
        fn round(&mut self, candidate: &mut Election, now: Instant, reachable: bool) {
            if !reachable {
                return;
            }
            candidate.handle_seen(now, self.0.clone());
            if let Some(bid) = candidate.bid(now) {
                self.write(candidate, now, &bid);
            }
        }

        fn write(&mut self, candidate: &mut Election, now: Instant, bid: &Bid) {
            let version = self.0.as_ref().map(|seen| seen.version.clone());
            if version != bid.version {
                return;
            }
            let next = version.map_or(0, |version| version.parse::<u64>().unwrap()) + 1;
            let seen = Seen {
                holder: candidate.identity().to_owned(),
                transitions: bid.transitions,
                version: next.to_string(),
            };
            self.0 = Some(seen.clone());
            candidate.handle_won(now, seen);
        }
    }

    fn candidates() -> (Election, Election, Server, Instant) {
        let new = |name: &str| Election::new(name.to_owned());
        (new("a"), new("b"), Server::default(), Instant::now())
    }

    #[test]
    fn the_first_one_leads_and_the_other_waits_for_as_long_as_it_renews() {
        let (mut a, mut b, mut server, mut now) = candidates();
        for _ in 0..60 {
            server.round(&mut a, now, true);
            server.round(&mut b, now, true);
            assert_eq!((a.role(now), b.role(now)), (Role::Leader, Role::Standby));
            now += RETRY;
        }
        assert_eq!(server.0.unwrap().transitions, 0);
    }

    #[test]
    fn a_slow_server_is_waited_for_and_never_for_longer_than_a_leader_may_lead() {
        let (mut a, _, mut server, now) = candidates();
        assert_eq!(a.patience(now), ANSWER_WITHIN);
        server.round(&mut a, now, true);
        let mut asks = now + RETRY;
        assert_eq!(a.patience(asks), ANSWER_WITHIN);
        // Whatever is not answered from now on: it knows before another one may begin.
        while a.role(asks) == Role::Leader {
            asks += a.patience(asks) + RETRY;
        }
        assert!(
            asks <= now + LEASE,
            "it leads until {:?} after its last renewal",
            asks - now
        );
    }

    #[test]
    fn a_leader_that_died_is_followed_after_the_lease() {
        let (mut a, mut b, mut server, start) = candidates();
        server.round(&mut a, start, true);
        let mut now = start;
        while b.role(now) != Role::Leader {
            now += RETRY;
            server.round(&mut b, now, true);
        }
        assert!(now >= start + LEASE && now <= start + LEASE + 2 * RETRY);
        assert_eq!(server.0.unwrap().transitions, 1);
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let (mut a, mut b, mut server, now) = candidates();
        server.round(&mut a, now, true);
        server.0.as_mut().unwrap().holder.clear();
        server.round(&mut b, now, true);
        assert_eq!(b.role(now), Role::Leader);
    }

    #[test]
    fn a_leader_without_the_server_is_unsure_and_leads_again_if_nobody_took_over() {
        let (mut a, _, mut server, mut now) = candidates();
        server.round(&mut a, now, true);
        now += RENEW_WITHIN;
        server.round(&mut a, now, false);
        assert_eq!(a.role(now), Role::Unsure);
        now += Duration::from_mins(1);
        server.round(&mut a, now, true);
        assert_eq!(a.role(now), Role::Leader);
    }

    #[test]
    fn a_leader_that_was_frozen_sees_that_it_is_deposed_and_never_bids_again() {
        let (mut a, mut b, mut server, mut now) = candidates();
        server.round(&mut a, now, true);
        server.round(&mut b, now, true);
        now += LEASE;
        server.round(&mut b, now, true);
        assert_eq!((a.role(now), b.role(now)), (Role::Unsure, Role::Leader));
        server.round(&mut a, now, true);
        assert_eq!(a.role(now), Role::Deposed);
        now += Duration::from_hours(1);
        assert_eq!(a.bid(now), None);
    }

    #[test]
    fn of_two_that_bid_for_the_same_version_one_wins() {
        let (mut a, mut b, mut server, now) = candidates();
        a.handle_seen(now, None);
        b.handle_seen(now, None);
        let (bid_a, bid_b) = (a.bid(now).unwrap(), b.bid(now).unwrap());
        server.write(&mut a, now, &bid_a);
        server.write(&mut b, now, &bid_b);
        assert_eq!((a.role(now), b.role(now)), (Role::Leader, Role::Standby));
    }

    #[test]
    fn two_never_lead_at_once_whoever_is_cut_off_or_frozen() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut a, mut b, mut server, mut now) = candidates();
            for _ in 0..200 {
                now += Duration::from_millis(random.u64(100..4_000));
                let (gets_a, gets_b) = (random.u8(0..10) > 3, random.u8(0..10) > 3);
                server.round(&mut a, now, gets_a);
                server.round(&mut b, now, gets_b);
                let leads = [&a, &b].map(|candidate| candidate.role(now) == Role::Leader);
                assert_ne!(leads, [true, true], "seed {seed}");
                for candidate in [&mut a, &mut b] {
                    if candidate.role(now) == Role::Deposed {
                        *candidate = Election::new(format!("{}'", candidate.identity()));
                    }
                }
            }
        }
    }
}
