//! Why one task is not done, in words.

use harmony_collector::{Recorded, RecordedOutcome};
use harmony_protocol::ventilator::{Missing, NumberExplanation, NumberState};
use harmony_protocol::wire::Failure;

use super::account::{Account, NumberAccount, Told};
use super::batch::summary;
use super::words::{self, span, tasks};
use crate::status::render::last_words;

/// What people are told of one number.
pub(super) fn told(account: &Account, asked: &NumberAccount) -> Told {
    let number = asked.number;
    let mut told = match (&asked.ventilator, &asked.recorded) {
        (_, Some(recorded)) if recorded.settled => settled(account, recorded),
        (Some(explained), _) => of_ventilator(explained),
        (None, Some(recorded)) => unsettled(account, recorded),
        (None, None) => Told {
            answer: format!("is not known: nobody who knows could be asked{}", of_batch(account)),
            ..Told::default()
        },
    };
    told.answer = format!("Task {number} of {} {}", account.name, told.answer);
    if let Some(explained) = &asked.ventilator {
        if explained.deaths > 0 {
            let deaths = explained.deaths;
            told.because.push(format!("it was at workers that died {deaths} times"));
        }
        told.because.extend(explained.suspects.iter().map(words::suspect));
    }
    if let Some(recorded) = asked.recorded.as_ref().filter(|recorded| !recorded.settled)
        && recorded.current_attempt > 1
    {
        let attempt = recorded.current_attempt;
        told.because.push(format!(
            "the collector has charged {} failed attempts to it",
            attempt - 1
        ));
    }
    told
}

fn settled(account: &Account, recorded: &Recorded) -> Told {
    let Some(outcome) = &recorded.outcome else {
        return Told {
            answer: "is settled".to_owned(),
            ..Told::default()
        };
    };
    let RecordedOutcome {
        attempt,
        worker,
        start,
        seconds,
        ..
    } = outcome;
    let how = match (outcome.outcome.as_str(), outcome.code) {
        ("Succeeded", _) => "is done: it succeeded".to_owned(),
        (reason, Some(code)) => format!("has failed for good: {reason} {code}"),
        (reason, None) => format!("has failed for good: {reason}"),
    };
    let mut because = vec![
        format!("attempt {attempt} at {worker}, begun {start}, took {seconds:.3}s"),
        format!("{} bytes of output", outcome.output_bytes),
    ];
    because.extend(its_last_words(&outcome.log));
    Told {
        answer: how,
        because,
        next: (*attempt > 1)
            .then(|| format!("harmony joblog {} has its earlier attempts", account.named))
            .into_iter()
            .collect(),
    }
}

fn its_last_words(log: &str) -> Option<String> {
    Some(format!("its last words: {}", last_words(log)?))
}

/// The ventilator could not be asked.
fn unsettled(account: &Account, recorded: &Recorded) -> Told {
    if account
        .status
        .tasks
        .is_some_and(|counts| counts.total > 0 && recorded.number >= counts.total)
    {
        return out_of_range(account.status.tasks.map_or(0, |counts| counts.total));
    }
    Told {
        answer: format!("is not done: nothing is recorded of it{}", of_batch(account)),
        ..Told::default()
    }
}

fn of_batch(account: &Account) -> String {
    match summary(account) {
        why if why.is_empty() => why,
        why => format!("; the batch: {why}"),
    }
}

fn out_of_range(completions: u64) -> Told {
    let last = completions
        .checked_sub(1)
        .map(|last| format!("its tasks are 0 to {last}"));
    Told {
        answer: format!(
            "does not exist: {}",
            last.unwrap_or_else(|| "it has no task".to_owned())
        ),
        ..Told::default()
    }
}

fn of_ventilator(explained: &NumberExplanation) -> Told {
    let mut told = Told::default();
    told.answer = match &explained.state {
        NumberState::OutOfRange => return out_of_range(explained.completions),
        NumberState::Unknown { hold } => format!("is not known yet: {}", words::hold(hold, &explained.collector)),
        NumberState::Succeeded => "is done: it succeeded".to_owned(),
        NumberState::Failed { failure } => {
            told.because
                .extend(failure.as_ref().and_then(|failure| its_last_words(&failure.log)));
            format!("has failed for good{}", failure.as_ref().map(cause).unwrap_or_default())
        }
        NumberState::InFlight { .. } => return in_flight(explained),
        NumberState::Ready {
            attempt,
            resend,
            alone,
            ahead,
            hold,
        } => {
            if *alone {
                told.because
                    .push("several workers died while they had it, so it is to run alone".to_owned());
            }
            if *ahead > 0 {
                told.because.push(format!("{} go before it", tasks(*ahead)));
            }
            let again = if *resend { "be sent again" } else { "be sent" };
            let why = hold.as_ref().map(|hold| words::hold(hold, &explained.collector));
            let why = why.unwrap_or_else(|| "it is sent in its turn".to_owned());
            format!("waits to {again} (attempt {attempt}): {why}")
        }
        NumberState::Uploading(uploading) => format!(
            "is being sent (attempt {}): {}, and it runs when all of it is there",
            uploading.attempt,
            words::uploading(uploading)
        ),
        NumberState::Waiting { attempt, due_millis } => format!(
            "waits for its next attempt: attempt {} failed, attempt {attempt} is due in {}",
            attempt.saturating_sub(1),
            span(*due_millis)
        ),
        NumberState::HeldBack { attempt } => format!(
            "is held back (attempt {attempt}): it ran alone on a worker that went away, and it is not clear yet what became of that"
        ),
        NumberState::Unsendable { why, .. } => format!("cannot be sent: {why}; the collector is to record that"),
    };
    told.because.extend(words::collector(&explained.collector));
    told
}

fn cause(failure: &Failure) -> String {
    let code = if failure.code == 0 {
        String::new()
    } else {
        format!(" {}", failure.code)
    };
    format!(
        ": {}{code}, attempt {} at {}",
        failure.reason, failure.attempt, failure.worker
    )
}

fn in_flight(explained: &NumberExplanation) -> Told {
    let mut told = Told::default();
    let NumberState::InFlight {
        attempt,
        millis,
        worker,
        alone,
        missing,
    } = &explained.state
    else {
        return told;
    };
    let Some(worker) = worker else {
        told.answer = format!("goes out again in a moment (attempt {attempt}): the link to its worker has just closed");
        return told;
    };
    let time = span(*millis);
    let trouble = words::collector(&explained.collector);
    told.answer = match missing {
        Some(Missing::Asked) => format!(
            "is missing at the collector (attempt {attempt}): {} is asked whether it holds it",
            worker.name
        ),
        Some(Missing::Denied) => format!(
            "is missing at the collector (attempt {attempt}), and {} does not hold it: it goes out again if it is still missing at the next report",
            worker.name
        ),
        None => format!("is at worker {} since {time} (attempt {attempt})", worker.name),
    };
    told.because.push(format!("worker {}", words::worker(worker)));
    if worker.in_flight > worker.slots {
        told.because.push(format!(
            "the worker runs {} at once: it may wait for a slot there",
            tasks(worker.slots)
        ));
    }
    if *alone {
        told.because
            .push("it runs alone there, since several workers died while they had it".to_owned());
    }
    told.because.extend(trouble);
    told
}

#[cfg(test)]
#[path = "number_tests.rs"]
mod tests;
