//! What failures of worker pods mean.

use super::Findings;
use crate::batch::{PodFailureMatch, PodFailureRule};
use crate::problem::FieldPath;
use crate::spec::{ExitCodeOperatorSpec, HarmonyBatchSpec, OnExitCodesSpec, PodFailureRuleSpec};

impl Findings {
    pub(super) fn pod_failure_policy(&mut self, spec: &HarmonyBatchSpec) -> Option<Vec<PodFailureRule>> {
        let policy = spec.pod_failure_policy.as_ref();
        let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
        let path = FieldPath::of(&["spec", "podFailurePolicy", "rules"]);
        let containers = containers(spec);
        let checked: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| self.pod_failure_rule(&path.entry(index), rule, &containers))
            .collect();
        checked.into_iter().collect()
    }

    fn pod_failure_rule(
        &mut self,
        path: &FieldPath,
        rule: &PodFailureRuleSpec,
        containers: &[&str],
    ) -> Option<PodFailureRule> {
        let on = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), None) => {
                PodFailureMatch::ExitCodes(self.exit_codes(&path.field("onExitCodes"), codes, containers)?)
            }
            (None, Some(conditions)) => PodFailureMatch::Conditions(conditions.clone()),
            (None, None) => {
                return self.add_at(
                    path.clone(),
                    "found neither onExitCodes nor onPodConditions; give one of them",
                );
            }
            (Some(_), Some(_)) => {
                return self.add_at(
                    path.clone(),
                    "found both onExitCodes and onPodConditions; write two rules",
                );
            }
        };
        Some(PodFailureRule {
            action: rule.action,
            on,
        })
    }

    fn exit_codes(
        &mut self,
        path: &FieldPath,
        codes: &OnExitCodesSpec,
        containers: &[&str],
    ) -> Option<OnExitCodesSpec> {
        if codes.operator == ExitCodeOperatorSpec::In
            && let Some(index) = codes.values.iter().position(|code| *code == 0)
        {
            let message = "found 0, which is no failure; remove it, or use the operator NotIn";
            return self.add_at(path.field("values").entry(index), message);
        }
        match codes.container_name.as_deref() {
            Some(name) if !containers.is_empty() && !containers.contains(&name) => {
                let message = format!(
                    "found {name:?}, expected a container of spec.template: {}",
                    containers.join(", ")
                );
                self.add_at(path.field("containerName"), message)
            }
            _ => Some(codes.clone()),
        }
    }
}

/// The containers of a worker pod, and its init containers.
fn containers(spec: &HarmonyBatchSpec) -> Vec<&str> {
    let pod = spec.template.as_ref().and_then(|template| template.spec.as_ref());
    let init = pod.and_then(|pod| pod.init_containers.as_ref()).into_iter().flatten();
    let containers = pod.map(|pod| &pod.containers).into_iter().flatten();
    containers
        .chain(init)
        .map(|container| container.name.as_str())
        .collect()
}
