//! What becomes of the tasks of a warm process that ended, and of the process.

use std::{
    collections::{HashSet, VecDeque},
    io,
    process::ExitStatus,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::wire::OutcomeCode;

use super::{Cause, Runner, Warm};
use crate::executor::{
    Task,
    outcome::{Began, End, text},
};

/// The first and the longest pause before a process is started again that ended without one answer.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// A process without tasks that ends later than this did not fail to start: it may leave when nothing comes in.
const START_TIME: Duration = Duration::from_secs(5);

/// A process that ended.
struct Ended {
    cause: Option<Cause>,
    status: io::Result<(ExitStatus, Bytes)>,
    began: Began,
    /// Tasks without an answer, oldest first.
    left: VecDeque<Task>,
    /// Numbers among them that were to be stopped.
    marked: HashSet<u64>,
}

impl Runner {
    /// The process has ended: settles its tasks.
    pub(super) fn settle(&mut self) {
        let Some(mut warm) = self.warm.take() else { return };
        let left = std::mem::take(&mut warm.sent);
        let had_tasks = !left.is_empty();
        let failed = is_failed_start(&warm, had_tasks);
        let (cause, began, marked) = (warm.ending, warm.began, std::mem::take(&mut warm.marked));
        let ended = Ended {
            cause,
            status: warm.end(&mut self.buffer),
            began,
            left,
            marked,
        };
        if cause == Some(Cause::Extra) {
            let name = self.program.name();
            self.queue.warn(format!(
                "{name:?} wrote a line that answers no task; it was started anew"
            ));
        }
        let last = failed.then(|| ended.describe());
        self.charge_or_rerun(ended);
        self.plan_start(last, had_tasks);
    }

    /// Charges the task that is to blame, if that is known, and keeps the others to send them again.
    fn charge_or_rerun(&mut self, mut ended: Ended) {
        let charged = match ended.cause {
            Some(Cause::Stop) => None,
            Some(Cause::Deadline | Cause::Size) => ended.left.pop_front(),
            None | Some(Cause::Extra | Cause::Closed) if ended.left.len() == 1 => {
                self.suspects = 0;
                ended.left.pop_front()
            }
            None | Some(Cause::Extra | Cause::Closed) => {
                self.suspects = self.suspects.max(ended.left.len());
                None
            }
        };
        let mut stopped = Vec::new();
        for task in std::mem::take(&mut ended.left).into_iter().rev() {
            if ended.marked.contains(&task.number) {
                stopped.push((task.number, task.attempt));
            } else {
                self.rerun.push_front(task);
            }
        }
        self.queue.report_stopped(stopped);
        if let Some(task) = charged {
            self.suspects = self.suspects.saturating_sub(1);
            let began = ended.began;
            if let Ok((status, log)) = &mut ended.status {
                *log = self.queue.oom_kills.note(*status, began.at, std::mem::take(log));
            }
            self.queue.report_finished(vec![ended.into_end().of_task(&task, began)]);
        }
    }

    /// Decides when the next process starts. `failed` describes a start that was of no use.
    fn plan_start(&mut self, failed: Option<String>, had_tasks: bool) {
        self.start_at = None;
        let Some(last) = failed else {
            self.pause = Duration::ZERO;
            return;
        };
        if self.queue.health.exited_unanswered() {
            let name = self.program.name();
            self.queue.break_down(format!(
                "{name:?} ended again and again without answering a line; the last time {last}"
            ));
        }
        // Once anything was answered, a process that dies of a task costs that task an attempt, and needs no pause.
        if !self.queue.health.has_answered() || !had_tasks {
            self.pause_before_start();
        }
    }

    fn pause_before_start(&mut self) {
        self.pause = (2 * self.pause).clamp(PAUSE_FIRST, PAUSE_MOST);
        self.start_at = Instant::now().checked_add(self.pause);
    }

    /// Starts a process, if it is time; else waits.
    pub(super) fn restart(&mut self) {
        if self.start_at.is_some_and(|at| Instant::now() < at) {
            return self.queue.wait(self.slot, self.start_at);
        }
        match Warm::start(&mut self.command, &self.queue.extension) {
            Ok(warm) => {
                self.queue.health.started();
                self.warm = Some(warm);
            }
            Err(error) => {
                if self.queue.health.start_failed() {
                    self.queue.break_down(self.program.explain(&error));
                }
                self.pause_before_start();
            }
        }
    }

    /// The executor is broken or dropped: kills the process and hands everything back.
    pub(super) fn let_go(mut self, taken: &VecDeque<Task>) {
        let sent = self
            .warm
            .take()
            .map(|mut warm| std::mem::take(&mut warm.sent))
            .unwrap_or_default();
        let held = sent.iter().chain(&self.rerun).chain(taken);
        self.queue
            .report_stopped(held.map(|task| (task.number, task.attempt)).collect());
    }
}

impl Ended {
    /// How the charged task ended.
    fn into_end(self) -> End {
        let (status, log) = match self.status {
            Ok(ended) => ended,
            Err(error) => return End::error(format!("the exit status of the process cannot be read: {error}")),
        };
        match self.cause {
            Some(Cause::Deadline) => End::failure(OutcomeCode::DeadlineExceeded, log),
            Some(Cause::Size) => End::failure(OutcomeCode::ResultTooLarge, log),
            Some(Cause::Extra) => End::error("the process answered with more than one line"),
            Some(Cause::Closed) => {
                End::error("the process closed its standard input or output before it answered, and went on running")
            }
            None | Some(Cause::Stop) if status.success() => {
                let log = String::from_utf8_lossy(&log);
                End::exit_code(0, text(format!("the process exited with 0 before it answered\n{log}")))
            }
            None | Some(Cause::Stop) => End::of_status(status, log),
        }
    }

    /// How it ended, for people.
    fn describe(&self) -> String {
        match (&self.status, self.cause) {
            (_, Some(Cause::Extra)) => "it wrote a line before it was asked for one".to_owned(),
            (_, Some(Cause::Closed)) => "it closed its standard input or output".to_owned(),
            (Ok((status, log)), _) if log.is_empty() => format!("with {status}, and wrote nothing to stderr"),
            (Ok((status, log)), _) => format!("with {status}; stderr: {}", String::from_utf8_lossy(log).trim_end()),
            (Err(error), _) => format!("with a status that cannot be read: {error}"),
        }
    }
}

/// Whether it ended without having been of any use, by no doing of ours.
fn is_failed_start(warm: &Warm, had_tasks: bool) -> bool {
    let by_itself = matches!(warm.ending, None | Some(Cause::Extra | Cause::Closed));
    by_itself && !warm.has_answered && (had_tasks || warm.started.elapsed() < START_TIME)
}
