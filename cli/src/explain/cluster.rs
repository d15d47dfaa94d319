//! What is known of a batch on a cluster: its status, its pods, its events, its operator and its collector.

use std::time::Duration;

use harmony_api::conditions::{COMPLETE, FAILED};
use harmony_api::conventions::{BATCH_UID_LABEL, COLLECTOR_ROLE, ROLE_LABEL, STANDS_BY};
use harmony_api::pod::waiting;
use harmony_api::spec::HarmonyBatch;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::account::{Account, NumberAccount, PodTrouble};
use super::local::MAX_ANSWER;
use crate::cluster::tunnel::{self, Refused};
use crate::cluster::{Cluster, KubeArgs, missing_right};
use crate::exit::Failure;

/// How long one pod may take to answer: the three questions are to be answered within a minute.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// Pods that are told; more say the same.
const PODS: usize = 5;
/// Events that are told.
const EVENTS: usize = 5;
/// The label of the operator's pods.
const OPERATORS: &str = "app.kubernetes.io/component=operator";

/// What is known of the batch, and of one of its numbers.
pub(crate) async fn account(
    args: &KubeArgs,
    operator: &str,
    name: &str,
    number: Option<u64>,
) -> Result<Account, Failure> {
    let cluster = Cluster::find(args).await?;
    let batch = cluster.batch(name).await?;
    Ok(of(&cluster, operator, &batch, number).await)
}

/// The same of a batch that was read.
pub(crate) async fn of(cluster: &Cluster, operator: &str, batch: &HarmonyBatch, number: Option<u64>) -> Account {
    let name = batch.name_any();
    let mut account = Account {
        place: format!("in namespace {}", cluster.namespace),
        named: format!("{name} -n {}", cluster.namespace),
        status: batch.status.clone().unwrap_or_default(),
        name,
        ..Account::default()
    };
    account.ended = end(batch);
    account.idle = idle(batch);
    let pods = pods(cluster, batch, &mut account).await;
    events(cluster, batch, &mut account).await;
    let mut asked = number.map(|number| NumberAccount {
        number,
        ..NumberAccount::default()
    });
    if account.ended.is_none() {
        ask_operator(cluster, operator, &mut account, asked.as_mut()).await;
    }
    if let Some(asked) = &mut asked {
        ask_collector(cluster, batch, &pods, &mut account, asked).await;
    }
    account.number = asked;
    account
}

fn end(batch: &HarmonyBatch) -> Option<String> {
    let status = batch.status.as_ref()?;
    let ended = status
        .conditions
        .iter()
        .find(|condition| [COMPLETE, FAILED].contains(&condition.type_.as_str()) && condition.status == "True")?;
    let word = if ended.type_ == COMPLETE { "complete" } else { "failed" };
    let message = ended.message.trim();
    let said = if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    };
    Some(format!("{word} ({}){said}", ended.reason))
}

/// Whether nobody has taken it up.
fn idle(batch: &HarmonyBatch) -> Option<String> {
    let status = batch.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.is_empty().then(|| {
        "no operator has taken it up: does one run (kubectl get pods -A -l app.kubernetes.io/name=harmony), and for this namespace?"
            .to_owned()
    })
}

async fn pods(cluster: &Cluster, batch: &HarmonyBatch, account: &mut Account) -> Vec<Pod> {
    let labels = format!("{BATCH_UID_LABEL}={}", batch.uid().unwrap_or_default());
    let found = match cluster.pods().list(&ListParams::default().labels(&labels)).await {
        Ok(found) => found.items,
        Err(error) => {
            account
                .unknown
                .push(missing_right("its pods", "list", "pods", &cluster.namespace, &error));
            return Vec::new();
        }
    };
    let now = Timestamp::now();
    let troubles = found.iter().filter_map(|pod| {
        let waiting = waiting(pod, now)?;
        Some(PodTrouble {
            pod: pod.name_any(),
            reason: waiting.reason,
            message: waiting.message.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    });
    account.pods = troubles.take(PODS).collect();
    found
}

async fn events(cluster: &Cluster, batch: &HarmonyBatch, account: &mut Account) {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let uid = batch.uid().unwrap_or_default();
    let of_batch = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
    match api.list(&of_batch).await {
        Ok(found) => account.events = warnings(found.items, Timestamp::now()),
        Err(error) => {
            account.unknown.push(missing_right(
                "its events",
                "list",
                "events",
                &cluster.namespace,
                &error,
            ));
        }
    }
}

/// The newest warnings, each with its age.
fn warnings(mut events: Vec<Event>, now: Timestamp) -> Vec<String> {
    let at = |event: &Event| {
        let series = event
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
        event.last_timestamp.as_ref().map(|time| time.0).max(micro)
    };
    events.sort_by_key(|event| std::cmp::Reverse(at(event)));
    let told = events.iter().take(EVENTS).map(|event| {
        let age = at(event).map(|at| format!("{} ago ", crate::status::age::between(at, now)));
        let reason = event.reason.as_deref().unwrap_or_default();
        let message = event.message.as_deref().unwrap_or_default();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}{reason}: {message}", age.unwrap_or_default())
    });
    told.collect()
}

/// Asks the operators one by one: the one that leads answers.
async fn ask_operator(cluster: &Cluster, operator: &str, account: &mut Account, number: Option<&mut NumberAccount>) {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), operator);
    let found = match pods.list(&ListParams::default().labels(OPERATORS)).await {
        Ok(found) => found.items,
        Err(error) => {
            account
                .unknown
                .push(missing_right("the operator", "list", "pods", operator, &error));
            return;
        }
    };
    let path = format!("/explain/{}/{}", cluster.namespace, account.name);
    let mut said = None;
    for pod in found.iter().filter(|pod| is_running(pod)) {
        match ask(&pods, operator, &pod.name_any(), &path).await {
            Ok(told) => {
                account.ventilator = Some(told);
                if let Some(asked) = number {
                    let path = format!("{path}/{}", asked.number);
                    match ask(&pods, operator, &pod.name_any(), &path).await {
                        Ok(told) => asked.ventilator = Some(told),
                        Err(why) => account.unknown.push(format!("the operator: {why}")),
                    }
                }
                return;
            }
            // The one that leads knows why there is no answer; the others only that they do not lead.
            Err(why) if !why.contains(STANDS_BY) => said = Some(why),
            Err(why) => said = said.or(Some(why)),
        }
    }
    let none = || format!("no operator pod is in namespace {operator}; --operator-namespace names another one");
    account
        .unknown
        .push(format!("the operator: {}", said.unwrap_or_else(none)));
}

async fn ask_collector(
    cluster: &Cluster,
    batch: &HarmonyBatch,
    pods: &[Pod],
    account: &mut Account,
    asked: &mut NumberAccount,
) {
    let collector = pods.iter().find(|pod| {
        let role = pod.labels().get(ROLE_LABEL).is_some_and(|role| role == COLLECTOR_ROLE);
        role && is_running(pod)
    });
    let Some(collector) = collector else {
        account.unknown.push("the collector: it has no running pod".to_owned());
        return;
    };
    let path = format!("/batches/{}/numbers/{}", batch.uid().unwrap_or_default(), asked.number);
    match ask(&cluster.pods(), &cluster.namespace, &collector.name_any(), &path).await {
        Ok(recorded) => asked.recorded = Some(recorded),
        Err(why) => account.unknown.push(format!("the collector: {why}")),
    }
}

fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

async fn ask<T: DeserializeOwned>(pods: &Api<Pod>, namespace: &str, pod: &str, path: &str) -> Result<T, String> {
    let answer = async {
        let response = tunnel::ask(pods, namespace, pod, path)
            .await
            .map_err(|refused| match refused {
                Refused::Broken(why) => why,
                Refused::Final(failure) => failure.message,
            })?;
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let bytes = body.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| format!("the answer of pod {pod} is not understood: {error}"))
    };
    let silent = |_| format!("pod {pod} has not answered for {} s", ANSWER_WITHIN.as_secs());
    timeout(ANSWER_WITHIN, answer).await.map_err(silent)?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_warnings_come_first() {
        let event = |reason: &str, second: i64| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {}, "reason": reason, "message": "on\n node-1",
                "lastTimestamp": Timestamp::from_second(second).unwrap().to_string(),
            }))
            .unwrap()
        };
        let events = vec![event("Old", 10), event("WorkerLost", 90)];
        let told = warnings(events, Timestamp::from_second(100).unwrap());
        assert_eq!(told, ["10s ago WorkerLost: on node-1", "90s ago Old: on node-1"]);
    }
}
