//! What the collector misses: sent again, or asked after at the worker that should hold it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::work::Todo;
use super::{Flight, Ventilator};
use crate::ids::LinkId;
use crate::limits::END_AGAIN;
use crate::wire::{Held, Message, Missing, Span};

impl Ventilator {
    /// What the collector misses overrides what was believed. Numbers in flight are asked for before they are sent again.
    pub(super) fn take_missing(&mut self, now: Instant, missing: &Missing) {
        self.collector.end_again(now + END_AGAIN);
        let mut questions: BTreeMap<LinkId, Vec<Span>> = BTreeMap::new();
        let completions = self.config.completions;
        for (first, last) in missing.spans.iter().copied().filter(|span| span.1 < completions) {
            for number in first..=last {
                if self.settled.remove(number) {
                    if !self.failed.remove(number) {
                        self.success.missing(number);
                    }
                    self.resent.missing_at_collector += 1;
                    self.work.add(
                        (number, number),
                        Todo {
                            attempt: 1,
                            resend: true,
                        },
                    );
                }
            }
            for run in self.in_flight.within((first, last)).collect::<Vec<_>>() {
                self.doubt_flight((run.first, run.last), run.value, &mut questions);
            }
        }
        for (link, spans) in questions {
            self.ask_held(link, spans);
        }
    }

    /// A number in flight is missing: it is sent again if its worker has denied it, else the worker is asked.
    fn doubt_flight(&mut self, span: Span, flight: Flight, questions: &mut BTreeMap<LinkId, Vec<Span>>) {
        if !self.fleet.members.contains_key(&flight.link) {
            // Its link closed: it goes back by itself in a moment.
            return;
        }
        let denied: Vec<_> = self
            .doubted
            .within(span)
            .filter(|run| run.value == flight.link)
            .collect();
        for run in &denied {
            self.resent.missing_at_collector += run.count();
            self.put_back((run.first, run.last), flight);
        }
        let left = self
            .in_flight
            .within(span)
            .map(|run| (run.first, run.last))
            .collect::<Vec<_>>();
        questions.entry(flight.link).or_default().extend(left);
    }

    fn ask_held(&mut self, link: LinkId, mut spans: Vec<Span>) {
        let Some(member) = self.fleet.members.get_mut(&link) else {
            return;
        };
        spans.truncate(crate::limits::RANGES_PER_PIECE);
        member.held_serial = member.held_serial.wrapping_add(1);
        let (serial, alias) = (member.held_serial, member.alias);
        // One question at a time per worker: an older one is answered by the newer.
        self.asked.retain(|(asked, _), _| *asked != link);
        self.asked.insert((link, serial), spans.clone());
        self.sessions.send(
            link,
            alias,
            &Message::Held(Held {
                serial,
                answer: false,
                spans,
            }),
        );
    }
}
