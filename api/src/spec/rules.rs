//! The rules that the API server checks by itself, in CEL, each with the way out.
//!
//! What may change in a batch is what a running fleet can follow: `parallelism`, `suspend`, the deadlines,
//! `ttlSecondsAfterFinished`, and, by draining, `template` and `executor`.

use kube::core::Rule;

/// A field that stays as it was made, since what is recorded depends on it.
pub(super) fn fixed(field: &str) -> Rule {
    Rule::new(format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    ))
    .message(&*format!(
        "{field} cannot be changed; create the batch anew under another name, or delete this one first"
    ))
    .field_path(format!(".{field}"))
}

/// A range does not know its own end.
pub(super) fn range_has_an_end() -> Rule {
    Rule::new("!has(self.tasks.range) || has(self.completions)")
        .message("tasks.range needs completions, since nothing else says how many tasks there are")
}

/// Completions that are stated are those of the list.
pub(super) fn items_are_as_many() -> Rule {
    Rule::new("!has(self.tasks.items) || !has(self.completions) || size(self.tasks.items) == self.completions")
        .message("completions differs from the number of tasks.items; make them equal, or leave completions out")
        .field_path(".completions")
}

/// No pod can read the files of whoever submits.
pub(super) fn lines_are_in_reach() -> Rule {
    Rule::new("!has(self.tasks.lines) || !has(self.tasks.lines.path)")
        .message(
            "tasks.lines.path is a file of the machine that submits, which no pod can read; \
             use tasks.configMapRef or tasks.lines.url",
        )
        .field_path(".tasks")
}

/// Only http and https.
pub(super) fn address_is_of_the_web() -> Rule {
    Rule::new("!has(self.tasks.lines) || !has(self.tasks.lines.url) || self.tasks.lines.url.matches('^(?i)https?://')")
        .message("tasks.lines.url begins with http:// or https://; for a file use tasks.configMapRef")
        .field_path(".tasks")
}

/// On Kubernetes the workers are pods.
pub(super) fn there_are_pods() -> Rule {
    Rule::new("has(self.template) && has(self.template.spec) && size(self.template.spec.containers) > 0")
        .message("the workers are pods: add template.spec.containers with a name and an image, as in a Job")
}

/// Without a command in the executor, the worker's container has one.
pub(super) fn there_is_a_command() -> Rule {
    let containers = "self.template.spec.containers";
    let named = "c.name == 'worker'";
    let has_command = "has(c.command) && size(c.command) > 0";
    Rule::new(format!(
        "(has(self.executor) && (!has(self.executor.exec) || has(self.executor.exec.command))) \
         || !has(self.template) || !has(self.template.spec) || size({containers}) == 0 \
         || ({containers}.exists(c, {named}) ? {containers}.exists(c, {named} && {has_command}) \
         : has({containers}[0].command) && size({containers}[0].command) > 0)"
    ))
    .message(
        "without a command in the executor each task runs the worker container's own, and what the image starts by \
         itself is not known; add command to that container, or to executor.exec",
    )
}

/// A rule of a success policy asks for something.
pub(super) fn asks_for_something() -> Rule {
    Rule::new("has(self.succeededIndexes) || has(self.succeededCount)")
        .message("give succeededIndexes, succeededCount, or both")
}

/// Indexes are numbers and ranges. That they rise is checked by the operator.
pub(super) fn indexes_are_ranges() -> Rule {
    Rule::new("!has(self.succeededIndexes) || self.succeededIndexes.matches('^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$')")
        .message("succeededIndexes is made of rising numbers and ranges, such as 0,2-5")
        .field_path(".succeededIndexes")
}

/// A rule on pods that failed looks at exit codes or at conditions.
pub(super) fn looks_at_one_thing() -> Rule {
    Rule::new("has(self.onExitCodes) != has(self.onPodConditions)")
        .message("give either onExitCodes or onPodConditions; for both write two rules")
}

/// What ends with 0 has not failed.
pub(super) fn zero_is_no_failure() -> Rule {
    Rule::new("self.operator != 'In' || !(0 in self.values)")
        .message("exit code 0 is no failure; remove it from values, or use the operator NotIn")
        .field_path(".values")
}

/// A field that holds bytes, if it is there.
pub(super) fn is_bytes(field: &str, example: &str) -> Rule {
    Rule::new(format!(
        "!has(self.{field}) || string(self.{field}).matches('^0*[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$')"
    ))
    .message(&*format!(
        "{field} is a whole number of bytes above 0, such as {example}"
    ))
    .field_path(format!(".{field}"))
}
