//! Running a target: the kept cases, then mutated ones, each within its time and memory.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::Target;
use crate::corpus::Corpus;
use crate::mutation;

/// The longest time of one case; most take some microseconds, and the machine may be busy.
const SLOWEST: Duration = Duration::from_secs(10);
/// Cases that are tried to make a failing one smaller.
const SHRINKS: u32 = 2_000;

/// Runs a case and panics if a promise is broken, that of memory and of time included.
pub fn check(target: &Target, case: &[u8]) -> Vec<&'static str> {
    let started = Instant::now();
    let mut ended = Ok(Vec::new());
    // A panic must not pass through the counter, which would go on to count below it.
    let used = allocation_counter::measure(|| ended = catch_unwind(|| (target.run)(case)));
    let depths = ended.unwrap_or_else(|cause| resume_unwind(cause));
    let (held, allowed) = (used.bytes_max, (target.memory)(case.len()));
    assert!(
        held <= allowed,
        "{} bytes made {} hold {held} bytes at once; at most {allowed} are allowed",
        case.len(),
        target.name
    );
    let taken = started.elapsed();
    assert!(
        taken <= SLOWEST,
        "{} took {taken:?}; at most {SLOWEST:?} are allowed",
        target.name
    );
    depths
}

/// How many of the mutated cases reached each depth.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// Cases that differ from the kept one they were made of.
    pub cases: u64,
    /// How many of them reached each depth.
    pub reached: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases", self.cases)?;
        for (depth, count) in &self.reached {
            write!(f, ", {depth} {count}")?;
        }
        Ok(())
    }
}

/// A target with its corpus.
#[derive(Debug)]
pub struct Campaign<'a> {
    target: &'a Target,
    corpus: Corpus,
    running: Running,
}

/// The file that holds the case that is being run, since an abort leaves no other trace.
#[derive(Debug)]
struct Running {
    path: PathBuf,
    /// Stays open, since opening it for each case would have the system flush it each time.
    file: File,
}

impl Running {
    fn hold(&self, case: &[u8]) -> io::Result<()> {
        self.file.write_all_at(case, 0)?;
        self.file.set_len(case.len() as u64)
    }
}

impl<'a> Campaign<'a> {
    /// Runs a target with the cases of a corpus; `scratch` is a folder that outlives the process.
    pub fn new(target: &'a Target, corpus: Corpus, scratch: &Path) -> Self {
        let path = scratch.join(format!("{}.case", target.name));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            target,
            corpus,
            running: Running { path, file },
        }
    }

    /// Runs every kept case, and before that the one at which the last run was ended, if any. Panics if one fails.
    pub fn replay(&self) {
        let left = fs::read(&self.running.path).unwrap_or_default();
        if !left.is_empty() {
            // If it aborts again, this line must have come out before: not through the test's captured output.
            let path = self.running.path.display();
            let _ = writeln!(
                io::stderr(),
                "the last run was ended at a case; running it again: {path}"
            );
            if let Err(cause) = catch_unwind(AssertUnwindSafe(|| self.run(&left))) {
                self.fail(message(&*cause), &left);
            }
        }
        for (path, case) in self.corpus.cases().expect("the corpus is there") {
            self.run_kept(&path, &case);
        }
        self.forget();
    }

    fn run_kept(&self, path: &Path, case: &[u8]) {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| self.run(case))) {
            self.forget();
            panic!("{}\n{}", message(&*cause), self.again(path));
        }
    }

    /// Runs this many mutated cases. Panics if one fails, which is then made smaller and kept, or if too few get deep.
    pub fn mutate(&self, cases: u32, seed: u64) -> Share {
        let kept = self.corpus.cases().expect("the corpus is there");
        let kept = kept.into_iter().map(|(_, case)| case).collect();
        let share = RefCell::new(Share::default());
        let config = Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: SHRINKS,
            ..Config::default()
        };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &spread(seed));
        let strategy = mutation::cases(kept, self.target);
        let run = TestRunner::new_with_rng(config, random).run(&strategy, |case| {
            let depths = self.run(&case.bytes);
            if case.changed {
                let mut share = share.borrow_mut();
                share.cases += 1;
                for depth in depths {
                    *share.reached.entry(depth).or_default() += 1;
                }
            }
            Ok(())
        });
        self.forget();
        match run {
            Ok(()) => {}
            Err(TestError::Fail(reason, case)) => {
                self.fail(&reason.to_string(), &case.bytes);
            }
            Err(TestError::Abort(reason)) => panic!("{} was not run: {reason}", self.target.name),
        }
        let share = share.into_inner();
        // Shares of fewer cases than the target asks for say nothing.
        if cases >= self.target.cases {
            self.check_depths(&share);
        }
        share
    }

    fn run(&self, case: &[u8]) -> Vec<&'static str> {
        self.running
            .hold(case)
            .expect("the case can be written before it is run");
        check(self.target, case)
    }

    /// The case that was run last did not end the process.
    fn forget(&self) {
        let _ = self.running.hold(&[]);
    }

    fn fail(&self, reason: &str, case: &[u8]) -> ! {
        self.forget();
        let path = self.corpus.keep_found(case).expect("the corpus can be added to");
        panic!("{reason}\n{}", self.again(&path));
    }

    fn again(&self, path: &Path) -> String {
        let (name, path) = (self.target.name, path.display());
        format!("the case is kept; run it again with: cargo run -p harmony-fuzz -- run {name} {path}")
    }

    fn check_depths(&self, share: &Share) {
        for goal in self.target.goals {
            let reached = share.reached.get(goal.depth).copied().unwrap_or(0);
            assert!(
                reached * 100 >= goal.percent * share.cases,
                "only {reached} of {} cases of {} got as far as {:?}; {} % are asked for",
                share.cases,
                self.target.name,
                goal.depth,
                goal.percent
            );
        }
    }
}

fn spread(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes
}

fn message(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}
