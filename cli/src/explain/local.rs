//! What is known of a batch in a folder: its run is asked by the control socket, its log is read.

use std::path::Path;
use std::time::Duration;

use harmony_collector::recorded;
use harmony_protocol::ventilator::{Explanation, NumberExplanation};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::account::{Account, NumberAccount};
use crate::cluster::block_on;
use crate::exit::Failure;
use crate::local::{Glance, LocalBatch};
use crate::status;
use crate::unix;

/// How long a run may take to answer: its loop takes milliseconds, and gives up by itself before.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// Bytes of an answer: explanations are bounded far below.
pub(super) const MAX_ANSWER: usize = 4 << 20;

/// What is known of the batch, and of one of its numbers.
pub(crate) fn account(batch: &LocalBatch, seen: &Glance, number: Option<u64>) -> Result<Account, Failure> {
    let (dir, runner) = (batch.dir.as_path(), seen.runner);
    let mut account = Account {
        name: batch.record.name.clone(),
        place: format!("in {}", dir.display()),
        named: dir.display().to_string(),
        ..Account::default()
    };
    let mut asked = number.map(|number| NumberAccount {
        number,
        ..NumberAccount::default()
    });
    if let Some(pid) = runner {
        let answers = block_on(async {
            let batch = ask::<Explanation>(dir, "/explain").await;
            let number = match number {
                Some(number) => Some(ask::<NumberExplanation>(dir, &format!("/explain/{number}")).await),
                None => None,
            };
            Ok((batch, number))
        });
        let (told, of_number) = answers?;
        match told {
            Ok(told) => account.ventilator = Some(told),
            Err(why) => account.unknown.push(format!("the run, process {pid}: {why}")),
        }
        match (&mut asked, of_number) {
            (Some(asked), Some(Ok(told))) => asked.ventilator = Some(told),
            (Some(asked), Some(Err(why))) => {
                let number = asked.number;
                account
                    .unknown
                    .push(format!("task {number} of the run, process {pid}: {why}"));
            }
            _ => {}
        }
    }
    if let Some((reader, state)) = &seen.log {
        account.status = status::local::summary(reader, state).map_err(Failure::infrastructure)?;
        account.ended = state
            .ended()
            .map(|done| status::local::end_in_words(done, state.completions()));
        if let Some(asked) = &mut asked {
            asked.recorded = Some(recorded(reader, state, asked.number).map_err(Failure::infrastructure)?);
        }
    }
    if runner.is_none() && account.ended.is_none() {
        account.idle = Some("no run is going on; the same harmony run resumes it".to_owned());
    } else if account.ventilator.is_none() && account.ended.is_none() {
        account.idle = Some("its run does not answer: it begins, ends or is frozen".to_owned());
    }
    account.number = asked;
    Ok(account)
}

/// Asks the run of a folder.
async fn ask<T: DeserializeOwned>(dir: &Path, path: &str) -> Result<T, String> {
    let answer = timeout(ANSWER_WITHIN, get(dir, path)).await;
    let bytes = answer.map_err(|_| format!("it has not answered for {} s", ANSWER_WITHIN.as_secs()))??;
    serde_json::from_slice(&bytes).map_err(|error| format!("its answer is not understood: {error}"))
}

async fn get(dir: &Path, path: &str) -> Result<Bytes, String> {
    let stream = harmony_admin::connect(dir)
        .await
        .map_err(|error| format!("its control socket does not answer: {error}"))?;
    unix::get(stream, path, MAX_ANSWER).await
}
