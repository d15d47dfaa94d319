//! How a world begins.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Event, Party, Tally, World};
use crate::checker::Checker;
use crate::clock::{Clock, RATE};
use crate::dice::{Concern, Dice, Place, evenly};
use crate::disk::Disk;
use crate::host::Input;
use crate::network::Network;
use crate::observation::Role;
use crate::settings::Settings;
use crate::trace::Trace;

/// Where the dice of a process are: taking others away must not move them.
const COLLECTOR_PLACE: Place = 0;
/// See [`COLLECTOR_PLACE`].
const VENTILATORS_PLACE: Place = 1;
/// See [`COLLECTOR_PLACE`].
const WORKERS_PLACE: Place = 1_000;

/// How far apart the clocks of two processes begin at most: machines must not compare what they show.
const CLOCKS_APART: Duration = Duration::from_hours(24);

impl World {
    /// A world that has not begun.
    pub fn new(settings: Settings, seed: u64, trace: Trace) -> Self {
        let mut world = Self {
            base: Instant::now(),
            at: Duration::ZERO,
            dice: Dice::new(seed),
            queue: BTreeMap::new(),
            pushed: 0,
            network: Network::default(),
            held: BTreeMap::new(),
            struck: Vec::new(),
            disk: Disk::default(),
            parties: Vec::new(),
            trace,
            checker: Checker::new(settings.batches.clone()),
            tally: Tally::default(),
            processes: 0,
            deaths: 0,
            crashes: 0,
            settings,
        };
        world.add(Role::Collector, "collector".into(), COLLECTOR_PLACE, Duration::ZERO);
        for index in 0..world.settings.workers.len() {
            let place = WORKERS_PLACE + index as u64;
            world.add(Role::Worker(index), format!("worker-{index}"), place, Duration::ZERO);
        }
        for (index, visit) in world.settings.visits.clone().into_iter().enumerate() {
            let place = VENTILATORS_PLACE + index as u64;
            let name = format!("ventilator-{index}");
            world.add(Role::Ventilator(visit.batch), name, place, visit.at);
            if let Some((fault, time)) = visit.absence {
                world.push(visit.at, Event::Absence(visit.batch, fault, time));
            }
        }
        for index in 0..world.settings.faults.len() {
            world.schedule_strike(index, 0, Duration::ZERO);
        }
        if world.settings.until > Duration::ZERO {
            world.push(world.settings.until, Event::Heal);
        }
        if let Some(cancel) = world.settings.cancel {
            let first = world.settings.workers.len() + 1;
            world.push(cancel, Event::Input(first, 1, Input::Cancel));
        }
        world
    }

    fn add(&mut self, role: Role, name: String, place: Place, at: Duration) {
        let random = self.dice.of(Concern::Process(place));
        let began = self.base + evenly(random, Duration::ZERO, CLOCKS_APART);
        let skew = self.settings.skew;
        let clock = Clock::new(began, random.u32(RATE - skew..=RATE + skew));
        self.parties.push(Party {
            role,
            name,
            place,
            clock,
            host: None,
            incarnation: 0,
            paused: false,
            waiting: VecDeque::new(),
            timer: None,
            spins: 0,
            said: (0, 0),
            epoch: 0,
            gone: false,
        });
        self.push(at, Event::Start(self.parties.len() - 1));
    }
}
