//! What is seen, and what people are told of it.

use super::*;
use crate::fleet::{End, Phase};

fn pod() -> WorkerPod {
    WorkerPod {
        name: "w-0-0".into(),
        ordinal: 0,
        generation: 0,
        uid: "u".into(),
        revision: "r".into(),
        phase: Phase::Pending,
        ip: None,
        ready: false,
        node: None,
        terminating: None,
        ended: None,
        waiting: None,
    }
}

fn waiting(reason: &str) -> WorkerPod {
    WorkerPod {
        waiting: Some(Waiting {
            reason: reason.into(),
            message: "because".into(),
        }),
        ..pod()
    }
}

fn ended(reason: EndReason) -> WorkerPod {
    WorkerPod {
        ended: Some(End {
            exit_code: Some(3),
            signal: None,
            reason,
            counts: true,
            message: String::new(),
            exits: Vec::new(),
            conditions: Vec::new(),
        }),
        ..pod()
    }
}

fn reason_of(pods: &[WorkerPod]) -> Option<&'static str> {
    Trouble::of_fleet(None, pods, [None, None]).map(|trouble| trouble.reason)
}

#[test]
fn the_kubelets_words_become_reasons() {
    for (word, expected) in [
        ("ErrImagePull", reason::IMAGE_PULL_FAILED),
        ("ImagePullBackOff", reason::IMAGE_PULL_FAILED),
        ("InvalidImageName", reason::IMAGE_PULL_FAILED),
        ("Unschedulable", reason::UNSCHEDULABLE),
        ("RunContainerError", reason::EXECUTOR_FAILED),
        ("CreateContainerConfigError", reason::POD_NOT_CONFIGURED),
        ("ContainerCreating", reason::POD_NOT_CONFIGURED),
    ] {
        assert_eq!(reason_of(&[waiting(word)]), Some(expected), "{word}");
    }
    assert_eq!(reason_of(&[pod()]), None);
}

#[test]
fn ends_that_say_nothing_of_the_other_pods_are_no_trouble() {
    for (end, expected) in [
        (EndReason::InitError, Some(reason::INIT_FAILED)),
        (EndReason::StartError, Some(reason::EXECUTOR_FAILED)),
        (EndReason::Error, Some(reason::PODS_CRASH)),
        (EndReason::Completed, None),
        (EndReason::Evicted, None),
        (EndReason::NodeLost, None),
        (EndReason::Deleted, None),
    ] {
        assert_eq!(reason_of(&[ended(end)]), expected, "{end:?}");
    }
}

#[test]
fn what_says_most_is_told_first() {
    let refused = Trouble::new(reason::PODS_REFUSED, "quota");
    let missing = Trouble::new(reason::POD_NOT_CONFIGURED, "ConfigMap absent");
    let before = Trouble::new(reason::INIT_FAILED, "exit code 3");
    let (named, slow) = (waiting("ErrImagePull"), waiting("ContainerCreating"));
    let told = |refused, pods: &[WorkerPod], known| Trouble::of_fleet(refused, pods, known).map(|it| it.message);
    let both = [slow.clone(), named];
    assert_eq!(told(Some(refused), &both, [Some(&missing), None]).unwrap(), "quota");
    let waits = told(None, &both, [Some(&missing), None]).unwrap();
    assert_eq!(waits, "pod w-0-0 waits: ErrImagePull: because");
    // A pod that is only slow says less than what is known of its template, or of how the one before it ended.
    let slow = [slow];
    assert_eq!(
        told(None, &slow, [Some(&missing), Some(&before)]).unwrap(),
        "ConfigMap absent"
    );
    assert_eq!(told(None, &slow, [None, Some(&before)]).unwrap(), "exit code 3");
    assert_eq!(
        told(None, &slow, [None, None]).unwrap(),
        "pod w-0-0 waits: ContainerCreating: because"
    );
}

#[test]
fn ventilators_that_work_are_no_trouble() {
    assert_eq!(Trouble::of_ventilator(&VentilatorState::Opening), None);
    let reason_of = |state| Trouble::of_ventilator(&state).map(|trouble| trouble.reason);
    let changed = VentilatorState::SourceChanged {
        was: Default::default(),
        now: Default::default(),
    };
    assert_eq!(reason_of(changed), Some(reason::TASKS_SOURCE_CHANGED));
    let unread = VentilatorState::SourceFailed {
        error: "404".into(),
        is_input: false,
    };
    assert_eq!(reason_of(unread), Some(reason::TASKS_SOURCE_UNAVAILABLE));
    assert_eq!(
        reason_of(VentilatorState::Fenced { epoch: 2 }),
        Some(reason::VENTILATOR_FAILED)
    );
}

#[test]
fn a_user_that_may_be_root_is_told_what_to_set() {
    let waiting = |message: &str| Waiting {
        reason: "CreateContainerConfigError".to_owned(),
        message: message.to_owned(),
    };
    let kubelet = "container has runAsNonRoot and image has non-numeric user (worker), cannot verify user is non-root";
    let trouble = Trouble::of_waiting("pod a", &waiting(kubelet));
    assert_eq!(trouble.reason, reason::POD_NOT_CONFIGURED);
    assert!(
        trouble.message.contains("spec.template.spec.securityContext.runAsUser"),
        "{trouble:?}"
    );
    let other = Trouble::of_waiting("pod a", &waiting("configmap \"lines\" not found"));
    assert!(other.message.ends_with("not found"), "{other:?}");
}

#[test]
fn a_refused_collector_names_what_sizes_it() {
    let refused = apply::Error::Refused {
        kind: "Pod".to_owned(),
        name: "c".to_owned(),
        message: "exceeded quota".to_owned(),
    };
    let message = Trouble::of_refused_collector(&refused).message;
    assert!(
        message.ends_with("exceeded quota; spec.collector.resources says what the collector asks for"),
        "{message}"
    );
}
