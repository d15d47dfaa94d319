//! What is known of a batch from all who could be asked.

use harmony_api::status::HarmonyBatchStatus;
use harmony_collector::Recorded;
use harmony_protocol::ventilator::{Explanation, NumberExplanation};
use serde::Serialize;
use serde_json::{Value, json};

use super::{batch, number};

/// What is known of a batch from all who could be asked.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    /// Its name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) place: String,
    /// How it is named on the command line.
    #[serde(skip)]
    pub(crate) named: String,
    /// Its status; of a folder, as far as its log tells.
    pub(crate) status: HarmonyBatchStatus,
    /// How it ended, if it has.
    pub(crate) ended: Option<String>,
    /// That nothing works on it, and what would.
    pub(crate) idle: Option<String>,
    /// What its ventilator says.
    pub(crate) ventilator: Option<Explanation>,
    /// What is known of the number that was asked for.
    pub(crate) number: Option<NumberAccount>,
    /// Pods that cannot start.
    pub(crate) pods: Vec<PodTrouble>,
    /// Warnings about it, newest first.
    pub(crate) events: Vec<String>,
    /// Who could not be asked, and why.
    pub(crate) unknown: Vec<String>,
}

/// What is known of one number.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NumberAccount {
    /// The number.
    pub(crate) number: u64,
    /// What the ventilator says of it.
    pub(crate) ventilator: Option<NumberExplanation>,
    /// What the collector has recorded of it.
    pub(crate) recorded: Option<Recorded>,
}

/// A pod that cannot start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodTrouble {
    /// Its name.
    pub(crate) pod: String,
    /// Kubernetes' own word.
    pub(crate) reason: String,
    /// Kubernetes' own message.
    pub(crate) message: String,
}

/// What people are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The answer, in a line.
    pub(crate) answer: String,
    /// What it rests on.
    pub(crate) because: Vec<String>,
    /// What happens next, and what to ask next.
    pub(crate) next: Vec<String>,
}

impl Account {
    /// What people are told of it.
    pub(crate) fn told(&self) -> Told {
        match &self.number {
            Some(asked) => number::told(self, asked),
            None => batch::told(self),
        }
    }

    /// Settled and all tasks, as far as anybody told.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        if let Some(explanation) = &self.ventilator
            && explanation.collector.stage == harmony_protocol::ventilator::CollectorStage::Ready
        {
            let counts = explanation.counts;
            return Some((counts.succeeded + counts.failed, explanation.completions));
        }
        let counts = self.status.tasks?;
        Some((counts.succeeded + counts.failed, counts.total))
    }

    /// The same for programs.
    pub(crate) fn to_json(&self) -> Value {
        let told = self.told();
        json!({
            "answer": told.answer,
            "because": told.because,
            "next": told.next,
            "unknown": self.unknown,
            "account": self,
        })
    }
}
