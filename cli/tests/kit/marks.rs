//! What tasks wrote down while they ran: the only witness that does not depend on Harmony.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Shell code of a task that marks its start, with its number in `$n`: the number, the process id of its worker, and its
/// own.
pub const STARTED: &str = r#"echo "start $n $PPID $$" >> "$MARKS""#;
/// Shell code that marks its end.
pub const ENDED: &str = r#"echo "end $n $PPID $$" >> "$MARKS""#;

/// A line of the file: lines are short, so each is appended as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub number: u64,
    pub worker: i32,
    pub task: i32,
}

/// All marks so far.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    pub started: Vec<Mark>,
    pub ended: Vec<Mark>,
}

impl Marks {
    pub(super) fn read(path: &Path) -> Self {
        let mut marks = Self::default();
        let text = fs::read_to_string(path).unwrap();
        // A line that is being written may be seen in part.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [kind, number, worker, task] = words[..] else {
                panic!("{line:?} is no mark")
            };
            let mark = Mark {
                number: number.parse().unwrap(),
                worker: worker.parse().unwrap(),
                task: task.parse().unwrap(),
            };
            match kind {
                "start" => marks.started.push(mark),
                "end" => marks.ended.push(mark),
                _ => panic!("{line:?} is no mark"),
            }
        }
        marks
    }

    /// What started and has not ended, at one worker or at all.
    pub fn running(&self, worker: Option<i32>) -> BTreeSet<&Mark> {
        let ended: BTreeSet<_> = self.ended.iter().collect();
        let at = |mark: &&Mark| worker.is_none_or(|worker| worker == mark.worker);
        self.started
            .iter()
            .filter(at)
            .filter(|mark| !ended.contains(mark))
            .collect()
    }

    /// How often a number started.
    pub fn starts_of(&self, number: u64) -> usize {
        self.started.iter().filter(|mark| mark.number == number).count()
    }
}
