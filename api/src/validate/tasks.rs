//! Where the tasks come from.

use url::Url;

use super::{Destination, Findings};
use crate::batch::Tasks;
use crate::spec::{ConfigMapSpec, LinesSpec, TasksSpec};

impl Findings {
    pub(super) fn tasks(&mut self, tasks: &TasksSpec) -> Option<Tasks> {
        match tasks {
            TasksSpec::Range(_) => Some(Tasks::Range),
            TasksSpec::Items(items) => Some(Tasks::Items(items.0.clone())),
            TasksSpec::Lines(LinesSpec::Path(path)) => self.path(path),
            TasksSpec::Lines(LinesSpec::Url(url)) => self.url(url),
            TasksSpec::ConfigMapRef(reference) => self.config_map(reference),
        }
    }

    fn path(&mut self, path: &str) -> Option<Tasks> {
        let field = ["spec", "tasks", "lines", "path"];
        if self.destination == Destination::Cluster {
            let way_out = "put the lines into a ConfigMap (tasks.configMapRef) or behind an address (tasks.lines.url)";
            self.add(
                &field,
                format!("found {path:?}, a file of the machine that submits, which no pod can read; {way_out}"),
            )
        } else if path == "-" {
            self.add(
                &field,
                "found \"-\", expected a path; /dev/stdin reads the standard input",
            )
        } else if path.contains('\0') {
            self.add(&field, format!("found {path:?}, expected a path without a zero byte"))
        } else {
            Some(Tasks::Path(path.into()))
        }
    }

    fn url(&mut self, written: &str) -> Option<Tasks> {
        let field = ["spec", "tasks", "lines", "url"];
        match Url::parse(written) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Some(Tasks::Url(url)),
            Ok(url) if url.scheme() == "file" => {
                let instead = match self.destination {
                    Destination::Laptop => "tasks.lines.path",
                    Destination::Cluster => "tasks.configMapRef",
                };
                self.add(
                    &field,
                    format!("found {written:?}, expected http:// or https://; for a file use {instead}"),
                )
            }
            Ok(_) => self.add(&field, format!("found {written:?}, expected http:// or https://")),
            Err(error) => self.add(&field, format!("found {written:?}, expected a URL: {error}")),
        }
    }

    fn config_map(&mut self, reference: &ConfigMapSpec) -> Option<Tasks> {
        let ConfigMapSpec { name, key } = reference;
        if self.destination == Destination::Cluster {
            return Some(Tasks::ConfigMap {
                name: name.clone(),
                key: key.clone(),
            });
        }
        let message = format!(
            "found the ConfigMap {name:?}, which only Kubernetes has; write the lines into a file and use tasks.lines.path"
        );
        self.add(&["spec", "tasks", "configMapRef"], message)
    }
}
