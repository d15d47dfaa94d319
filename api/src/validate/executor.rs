//! How a task is run, and the container that it runs in.

use harmony_protocol::wire::Framing;
use k8s_openapi::api::core::v1::Container;

use super::{Destination, Findings};
use crate::batch::{Command, Executor};
use crate::conventions::WORKER_CONTAINER;
use crate::expansion::expand;
use crate::limits::MAX_COMMAND_BYTES;
use crate::problem::FieldPath;
use crate::spec::{ExecSpec, ExecutorSpec, FramingSpec, HarmonyBatchSpec};

/// The container that runs tasks, and where it is.
struct Worker<'a> {
    container: &'a Container,
    path: FieldPath,
}

impl Findings {
    pub(super) fn executor(&mut self, spec: &HarmonyBatchSpec) -> Option<Executor> {
        let worker = worker(spec);
        if self.destination == Destination::Cluster && worker.is_none() {
            self.no_worker::<()>(spec);
        }
        match &spec.executor {
            None | Some(ExecutorSpec::Exec(ExecSpec { command: None })) => self.container(spec, worker.as_ref()),
            Some(ExecutorSpec::Exec(ExecSpec { command: Some(command) })) => {
                Some(Executor::Exec(self.command(&path("exec"), command)?))
            }
            Some(ExecutorSpec::Process(process)) => Some(Executor::Process {
                command: self.command(&path("process"), &process.command)?,
                framing: match process.framing {
                    FramingSpec::Lines => Framing::Lines,
                },
            }),
            Some(ExecutorSpec::Library(library)) => {
                Some(Executor::Library(self.command(&path("library"), &library.command)?))
            }
        }
    }

    fn no_worker<T>(&mut self, spec: &HarmonyBatchSpec) -> Option<T> {
        if spec.template.is_none() {
            let message = "missing; on Kubernetes the workers are pods: add spec.template.spec.containers with a name and an image, as in a Job";
            self.add(&["spec", "template"], message)
        } else {
            let message = "found none, expected a container that runs the tasks; add one with a name and an image";
            self.add(&["spec", "template", "spec", "containers"], message)
        }
    }

    /// The executor that is the container's own command.
    fn container(&mut self, spec: &HarmonyBatchSpec, worker: Option<&Worker<'_>>) -> Option<Executor> {
        let Some(worker) = worker else {
            // On a cluster that is said already.
            return match self.destination {
                Destination::Cluster => None,
                Destination::Laptop if spec.executor.is_none() => self.add(
                    &["spec", "executor"],
                    "missing, expected exactly one of exec, process, library",
                ),
                Destination::Laptop => self.add_at(path("exec"), "missing; name the program to run"),
            };
        };
        let field = worker.path.field("command");
        let command = worker.container.command.iter().flatten();
        if command.clone().next().is_none() {
            let message = "missing; without a command in spec.executor each task runs this one, and what the image starts by \
                           itself is not known: add it here, or name a command in spec.executor.exec";
            return self.add_at(field, message);
        }
        let whole: Vec<_> = command.chain(worker.container.args.iter().flatten()).cloned().collect();
        match self.destination {
            Destination::Cluster => self.command(&field, &whole).map(|_| Executor::Container),
            Destination::Laptop => {
                let whole = self.expanded(worker, &whole)?;
                self.command(&field, &whole).map(Executor::Exec)
            }
        }
    }

    /// The command as a kubelet would start it. Here nothing sets the container's variables.
    fn expanded(&mut self, worker: &Worker<'_>, command: &[String]) -> Option<Vec<String>> {
        let variables = || {
            worker
                .container
                .env
                .iter()
                .flatten()
                .map(|variable| variable.name.as_str())
        };
        let expanded: Result<Vec<_>, _> = command
            .iter()
            .map(|text| expand(text, |name| variables().any(|variable| variable == name)))
            .collect();
        expanded.map_or_else(
            |name| {
                let message = format!(
                    "uses $({name}), a variable that only Kubernetes sets; name a command without it in spec.executor.exec.command"
                );
                self.add_at(worker.path.field("command"), message)
            },
            Some,
        )
    }

    fn command(&mut self, field: &FieldPath, command: &[String]) -> Option<Command> {
        let bytes: usize = command.iter().map(String::len).sum();
        if bytes > MAX_COMMAND_BYTES {
            return self.add_at(
                field.clone(),
                format!("found {bytes} bytes, expected at most {MAX_COMMAND_BYTES}"),
            );
        }
        if let Some(index) = command.iter().position(|argument| argument.contains('\0')) {
            let path = field.entry(index);
            return self.add_at(path, "holds a zero byte, which no program can be given");
        }
        match command.split_first().filter(|(program, _)| !program.is_empty()) {
            Some((program, arguments)) => Some(Command {
                program: program.clone(),
                arguments: arguments.to_vec(),
            }),
            None => self.add_at(field.clone(), "names no program; the first entry is the program to run"),
        }
    }
}

fn path(executor: &str) -> FieldPath {
    FieldPath::of(&["spec", "executor", executor, "command"])
}

/// The container of that name, else the first.
fn worker(spec: &HarmonyBatchSpec) -> Option<Worker<'_>> {
    let containers = &spec.template.as_ref()?.spec.as_ref()?.containers;
    let named = containers
        .iter()
        .position(|container| container.name == WORKER_CONTAINER);
    let index = named.unwrap_or(0);
    Some(Worker {
        container: containers.get(index)?,
        path: FieldPath::of(&["spec", "template", "spec", "containers"]).entry(index),
    })
}
