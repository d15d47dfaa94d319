//! Random histories of pods, on a small model of the API server, the kubelets and the ventilator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harmony_operator::fleet::{
    Deletion, Desired, End, EndReason, Load, Loads, Memory, Phase, Plan, WorkerPod, Workers, plan,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

/// Something that happens. Numbers pick one of what is there.
#[derive(Clone, Debug)]
enum Step {
    /// The reconciler runs; it may see only what the watch has brought.
    Reconcile {
        up_to_date: bool,
    },
    Starts(usize),
    Ends(usize, bool),
    DeletedBySomebody(usize),
    KubeletFinishes(usize),
    Dispatch(usize),
    TaskEnds(usize),
    Scale(u32),
    Revision(u8),
    Stop(bool),
    Time(u32),
    OperatorRestarts,
}

fn step() -> impl Strategy<Value = Step> {
    let pick = 0..8_usize;
    prop_oneof![
        6 => any::<bool>().prop_map(|up_to_date| Step::Reconcile { up_to_date }),
        4 => pick.clone().prop_map(Step::Starts),
        2 => (pick.clone(), any::<bool>()).prop_map(|(pod, counts)| Step::Ends(pod, counts)),
        1 => pick.clone().prop_map(Step::DeletedBySomebody),
        2 => pick.clone().prop_map(Step::KubeletFinishes),
        4 => pick.clone().prop_map(Step::Dispatch),
        3 => pick.prop_map(Step::TaskEnds),
        2 => (0..5_u32).prop_map(Step::Scale),
        1 => (0..3_u8).prop_map(Step::Revision),
        1 => any::<bool>().prop_map(Step::Stop),
        2 => (1..400_u32).prop_map(Step::Time),
        1 => Just(Step::OperatorRestarts),
    ]
}

/// A pod as it really is.
#[derive(Clone, Debug)]
struct Real {
    pod: WorkerPod,
    /// When its grace ends, once it is deleted.
    grace_ends: Option<Timestamp>,
    running_tasks: u32,
}

/// What the ventilator has with one worker.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    draining: bool,
    greeted: bool,
    settled: u64,
}

struct World {
    now: Timestamp,
    pods: BTreeMap<String, Real>,
    /// What the operator's watch has brought.
    seen: Vec<WorkerPod>,
    links: BTreeMap<String, Link>,
    desired: Desired,
    memory: Memory,
    uids: u64,
    /// Pods, by uid, whose end the ventilator was told since the operator started.
    told: BTreeSet<String>,
}

const GRACE: SignedDuration = SignedDuration::from_secs(30);

impl World {
    fn new() -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            pods: BTreeMap::new(),
            seen: Vec::new(),
            links: BTreeMap::new(),
            desired: Desired {
                workers: Workers::Run(2),
                revision: "0".into(),
            },
            memory: Memory::default(),
            uids: 0,
            told: BTreeSet::new(),
        }
    }

    fn pick(&mut self, index: usize) -> Option<&mut Real> {
        let count = self.pods.len();
        self.pods.values_mut().nth(index.checked_rem(count)?)
    }

    fn take(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Reconcile { up_to_date } => {
                if up_to_date {
                    self.watch();
                }
                self.reconcile();
            }
            Step::Starts(index) => {
                if let Some(real) = self.pick(index).filter(|real| real.pod.phase == Phase::Pending) {
                    real.pod.phase = Phase::Running;
                    real.pod.ready = true;
                    real.pod.ip = Some("10.0.0.1".into());
                }
            }
            Step::Ends(index, counts) => {
                if let Some(real) = self.pick(index) {
                    real.end(counts);
                }
            }
            Step::DeletedBySomebody(index) => {
                if let Some(real) = self.pick(index) {
                    real.grace_ends.get_or_insert(now + GRACE);
                }
            }
            Step::KubeletFinishes(index) => {
                if let Some(real) = self.pick(index).filter(|real| real.grace_ends.is_some()) {
                    let name = real.pod.name.clone();
                    self.pods.remove(&name);
                }
            }
            Step::Dispatch(index) => {
                if let Some(real) = self.pick(index) {
                    let name = real.pod.name.clone();
                    self.dispatch(&name);
                }
            }
            Step::TaskEnds(index) => {
                if let Some(real) = self.pick(index).filter(|real| real.running_tasks > 0) {
                    real.running_tasks -= 1;
                    let name = real.pod.name.clone();
                    self.links.entry(name).or_default().settled += 1;
                }
            }
            Step::Scale(workers) => self.desired.workers = Workers::Run(workers),
            Step::Revision(revision) => self.desired.revision = revision.to_string(),
            Step::Stop(true) => self.desired.workers = Workers::Stop,
            Step::Stop(false) => self.desired.workers = Workers::Run(2),
            Step::Time(seconds) => self.now += SignedDuration::from_secs(i64::from(seconds)),
            Step::OperatorRestarts => {
                self.memory = Memory::default();
                self.links.clear();
                self.told.clear();
                self.watch();
            }
        }
    }

    /// The ventilator knows only workers that the watch has shown with an address.
    fn dispatch(&mut self, name: &str) {
        let known = self.seen.iter().any(|pod| pod.name == name && pod.ip.is_some());
        let Some(real) = self.pods.get_mut(name) else { return };
        if !known || real.pod.phase != Phase::Running {
            return;
        }
        let link = self.links.entry(name.to_owned()).or_default();
        link.greeted = true;
        if !link.draining {
            real.running_tasks += 1;
        }
    }

    fn watch(&mut self) {
        let now = self.now;
        let show = |real: &Real| WorkerPod {
            terminating: real.grace_ends.map(|end| now.duration_since(end)),
            ..real.pod.clone()
        };
        self.seen = self.pods.values().map(show).collect();
    }

    fn loads(&self) -> Loads {
        let of = |name: &String, link: &Link| {
            let running = self.pods.get(name).map_or(0, |real| real.running_tasks);
            let load = Load {
                idle: link.greeted && running == 0,
                draining: link.draining,
                greeted: link.greeted,
                settled: link.settled,
            };
            (name.clone(), load)
        };
        self.links.iter().map(|(name, link)| of(name, link)).collect()
    }

    fn reconcile(&mut self) -> Plan {
        let plan = plan(self.now, &self.desired, &self.seen, &self.loads(), &mut self.memory);
        self.check(&plan);
        self.carry_out(&plan);
        plan
    }

    fn check(&mut self, plan: &Plan) {
        let wanted = match self.desired.workers {
            Workers::Run(workers) => workers,
            Workers::Stop => 0,
        };
        assert!(plan.create.iter().all(|(ordinal, _)| *ordinal < wanted), "{plan:?}");
        let seen: BTreeMap<_, _> = self.seen.iter().map(|pod| (pod.name.as_str(), pod)).collect();
        for (name, uid, why) in &plan.delete {
            let pod = seen[name.as_str()];
            assert_eq!(pod.uid, *uid);
            assert_eq!(pod.ended.is_some(), *why == Deletion::Ended, "{pod:?}");
            let real = self
                .pods
                .get(name)
                .filter(|real| real.pod.uid == *uid && real.pod.ended.is_none());
            let running = real.map_or(0, |real| real.running_tasks);
            assert!(
                running == 0 || *why == Deletion::Stopped,
                "{name} runs {running} tasks: {why:?}"
            );
            let told = self.told.contains(uid) || plan.exited.iter().any(|(exited, _)| exited == name);
            assert!(
                *why != Deletion::Ended || told,
                "{name} is deleted before its end was told"
            );
        }
        for (name, _) in &plan.exited {
            // One that has vanished from the watch is not looked up by uid.
            if let Some(pod) = seen.get(name.as_str()) {
                assert!(self.told.insert(pod.uid.clone()), "the end of {name} is told twice");
            }
        }
    }

    fn carry_out(&mut self, plan: &Plan) {
        for name in &plan.drain {
            self.links.entry(name.clone()).or_default().draining = true;
        }
        for name in &plan.undrain {
            self.links.entry(name.clone()).or_default().draining = false;
        }
        let grace_ends = self.now + GRACE;
        for (name, uid, _) in &plan.delete {
            if self
                .pods
                .get(name)
                .is_some_and(|real| real.pod.uid == *uid && real.pod.phase == Phase::Pending)
            {
                self.pods.remove(name);
            } else if let Some(real) = self.pods.get_mut(name).filter(|real| real.pod.uid == *uid) {
                real.grace_ends.get_or_insert(grace_ends);
            }
        }
        for (ordinal, generation) in &plan.create {
            self.create(*ordinal, *generation);
        }
    }

    fn create(&mut self, ordinal: u32, generation: u64) {
        let name = super::name(ordinal, generation);
        if self.pods.contains_key(&name) {
            return;
        }
        self.uids += 1;
        let pod = WorkerPod {
            uid: self.uids.to_string(),
            revision: self.desired.revision.clone(),
            phase: Phase::Pending,
            ready: false,
            ip: None,
            ..super::pod(ordinal, generation)
        };
        self.links.remove(&name);
        let real = Real {
            pod,
            grace_ends: None,
            running_tasks: 0,
        };
        self.pods.insert(name, real);
        let lost = |real: &Real| {
            real.grace_ends
                .is_some_and(|end| self.now.duration_since(end).as_secs() >= 30)
        };
        let lives = |real: &&Real| real.pod.ordinal == ordinal && real.pod.ended.is_none() && !lost(real);
        let live: Vec<_> = self.pods.values().filter(lives).map(|real| &real.pod.name).collect();
        assert!(live.len() <= 1, "{live:?} live at the same time");
    }

    /// Nothing goes wrong any more: kubelets do their work, tasks end, and the reconciler runs when it asked to.
    fn settle(&mut self) {
        for _ in 0..200 {
            for real in self.pods.values_mut() {
                if real.pod.phase == Phase::Pending {
                    real.pod.phase = Phase::Running;
                    real.pod.ready = true;
                    real.pod.ip = Some("10.0.0.1".into());
                }
                real.running_tasks = 0;
            }
            self.pods.retain(|_, real| real.grace_ends.is_none());
            self.watch();
            let names: Vec<String> = self.pods.keys().cloned().collect();
            for name in names {
                self.links.entry(name).or_default().greeted = true;
            }
            let plan = self.reconcile();
            if plan == Plan::default() {
                return;
            }
            let pause = plan.next.unwrap_or(Duration::from_secs(1));
            self.now += SignedDuration::try_from(pause).unwrap();
        }
        panic!("it never comes to rest: {:?} of {:?}", self.pods, self.desired);
    }
}

impl Real {
    fn end(&mut self, counts: bool) {
        if self.pod.ended.is_some() || self.pod.phase != Phase::Running {
            return;
        }
        self.running_tasks = 0;
        self.pod.phase = Phase::Failed;
        self.pod.ready = false;
        self.pod.ended = Some(End {
            exit_code: Some(1),
            signal: None,
            reason: EndReason::Error,
            counts,
            message: String::new(),
            exits: Vec::new(),
            conditions: Vec::new(),
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_to_pods_the_wanted_ones_stand_in_the_end(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.settle();
        let wanted = match world.desired.workers {
            Workers::Run(workers) => workers,
            Workers::Stop => 0,
        };
        let standing: Vec<u32> = world.pods.values().map(|real| real.pod.ordinal).collect();
        prop_assert_eq!(standing, (0..wanted).collect::<Vec<_>>());
        for real in world.pods.values() {
            prop_assert_eq!(&real.pod.revision, &world.desired.revision);
            prop_assert!(!world.links[&real.pod.name].draining);
        }
    }
}
