//! The search: depth first, with sleep sets and a table of the states that were seen.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::Scope;
use super::state::State;
use super::step::{Act, Step};
use crate::broken::{Broken, catch};

/// A path that is longer than this goes nowhere: the longest ones are a third as long.
const DEEPEST: usize = 500;
/// So many states take some 2 GB; a search that finds more is not complete, and fails.
const MOST_STATES: usize = 40_000_000;

/// What a search has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Different states.
    pub states: usize,
    /// Steps taken.
    pub transitions: u64,
    /// Different states in which the batch was done.
    pub ends: u64,
    /// Steps of the longest path.
    pub depth: usize,
    /// Time that it took.
    pub elapsed: Duration,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            transitions,
            ends,
            depth,
            elapsed,
        } = self;
        let seconds = elapsed.as_secs_f64();
        write!(
            f,
            "{states} states, {transitions} steps, {ends} ends, {depth} deep, {seconds:.1} s"
        )
    }
}

/// A rule was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// How.
    pub broken: Broken,
    /// By these steps from the beginning.
    pub path: Vec<Step>,
}

struct Frame {
    state: State,
    key: u128,
    /// What is still to be tried.
    todo: Vec<Step>,
    /// What need not be tried: another order of steps that commute has led there already.
    sleep: Vec<Act>,
}

/// See the module.
pub(super) struct Search<'a> {
    scope: &'a Scope,
    seen: Seen,
    /// Each state, with the steps that slept at all visits so far, as bits in the order of its steps.
    table: HashMap<u128, u64>,
    stack: Vec<Frame>,
    /// The states of the stack.
    under_way: HashSet<u128>,
    path: Vec<Step>,
    buffer: String,
}

impl<'a> Search<'a> {
    pub(super) fn new(scope: &'a Scope) -> Self {
        Self {
            scope,
            seen: Seen::default(),
            table: HashMap::new(),
            stack: Vec::new(),
            under_way: HashSet::new(),
            path: Vec::new(),
            buffer: String::new(),
        }
    }

    /// Goes through all states.
    pub(super) fn run(mut self) -> Result<Seen, Box<Violation>> {
        let began = Instant::now();
        let whole = catch(|| {
            self.visit(State::new(self.scope), Vec::new());
            while !self.stack.is_empty() {
                self.advance();
            }
        });
        self.seen.states = self.table.len();
        self.seen.elapsed = began.elapsed();
        match whole {
            Ok(()) => Ok(self.seen),
            Err(broken) => Err(Box::new(Violation {
                broken,
                path: self.path,
            })),
        }
    }

    /// Takes the next step of the topmost state.
    fn advance(&mut self) {
        let Some(top) = self.stack.last_mut() else { return };
        let Some(step) = top.todo.pop() else {
            let key = top.key;
            self.under_way.remove(&key);
            self.stack.pop();
            self.path.pop();
            return;
        };
        let mut state = top.state.clone();
        let mut sleep = Vec::new();
        if let Step::Do(act) = step {
            sleep.extend(top.sleep.iter().filter(|other| other.commutes(&act)));
            top.sleep.push(act);
        }
        self.path.push(step);
        self.seen.transitions += 1;
        state.apply(self.scope, step);
        let depth = self.stack.len();
        self.visit(state, sleep);
        if self.stack.len() == depth {
            self.path.pop();
        }
    }

    /// Comes to a state, and puts it on the stack if there is anything new to do there.
    fn visit(&mut self, mut state: State, sleep: Vec<Act>) {
        self.seen.depth = self.seen.depth.max(self.path.len());
        assert!(self.path.len() <= DEEPEST, "{DEEPEST} steps, and the batch is not done");
        let key = state.key(&mut self.buffer);
        if state.is_done() {
            if self.table.insert(key, 0).is_none() {
                self.seen.ends += 1;
                state.judge(self.scope);
            }
            return;
        }
        assert!(
            !self.under_way.contains(&key),
            "an endless loop: this state was on the way already"
        );
        let fresh = match self.scope.holds {
            None => self.every_order(&state, key, &sleep),
            Some(_) => self.few_orders(&state, key),
        };
        if !fresh.is_empty() {
            self.under_way.insert(key);
            self.stack.push(Frame {
                state,
                key,
                todo: fresh,
                sleep,
            });
        }
    }

    /// What is to be tried if the first step goes first, or is held; and the faults.
    fn few_orders(&mut self, state: &State, key: u128) -> Vec<Step> {
        if self.table.contains_key(&key) {
            return Vec::new();
        }
        self.note(key, 0);
        let mut fresh = state.strikes(self.scope);
        fresh.extend(state.next_or_hold(self.scope));
        fresh
    }

    /// A state is new.
    fn note(&mut self, key: u128, asleep: u64) {
        assert!(
            self.table.len() < MOST_STATES,
            "not complete after {MOST_STATES} states"
        );
        self.table.insert(key, asleep);
    }

    /// What is to be tried of all steps.
    fn every_order(&mut self, state: &State, key: u128, sleep: &[Act]) -> Vec<Step> {
        let acts = state.acts();
        assert!(acts.len() <= 64, "more acts than bits: {acts:?}");
        let asleep = bits(&acts, |act| sleep.contains(act));
        if let Some(slept) = self.table.get_mut(&key) {
            // What slept at all earlier visits and is awake now was never tried here.
            let woken = *slept & !asleep;
            *slept &= asleep;
            return pick(&acts, woken);
        }
        self.note(key, asleep);
        let mut fresh = state.strikes(self.scope);
        fresh.extend(pick(&acts, !asleep));
        fresh
    }
}

fn bits(acts: &[Act], test: impl Fn(&Act) -> bool) -> u64 {
    let wanted = acts.iter().enumerate().filter(|(_, act)| test(act));
    wanted.fold(0, |bits, (place, _)| bits | 1 << place)
}

fn pick(acts: &[Act], bits: u64) -> Vec<Step> {
    let wanted = acts.iter().enumerate().filter(|(place, _)| bits & 1 << place != 0);
    wanted.map(|(_, act)| Step::Do(*act)).collect()
}
