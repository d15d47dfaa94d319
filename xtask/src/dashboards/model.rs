//! As much of Grafana's classic dashboard model as the rules look at.

use serde::Deserialize;

/// A dashboard.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dashboard {
    pub(super) uid: String,
    pub(super) title: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default = "yes")]
    pub(super) editable: bool,
    #[serde(default)]
    pub(super) links: Vec<Link>,
    pub(super) templating: List<Variable>,
    #[serde(default)]
    pub(super) annotations: List<Annotation>,
    pub(super) panels: Vec<Panel>,
}

fn yes() -> bool {
    true
}

/// What is listed below a key of its own.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) list: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

/// A way to other dashboards.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    #[serde(default)]
    pub(super) include_vars: bool,
    #[serde(default)]
    pub(super) keep_time: bool,
}

/// What the user chooses at the top.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Variable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) label: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) datasource: Option<Datasource>,
    /// What is asked, or the kind of data source.
    #[serde(default)]
    pub(super) query: serde_json::Value,
    #[serde(default)]
    pub(super) definition: String,
    /// 2: anew whenever the time range changes.
    #[serde(default)]
    pub(super) refresh: u8,
    #[serde(default)]
    pub(super) multi: bool,
    pub(super) all_value: Option<String>,
}

/// Where data come from.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Datasource {
    pub(super) uid: String,
}

/// Marks on all graphs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Annotation {
    pub(super) name: String,
    #[serde(default)]
    pub(super) expr: String,
}

/// One picture, or the heading of a row of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Panel {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) datasource: Option<Datasource>,
    #[serde(default)]
    pub(super) field_config: FieldConfig,
    #[serde(default)]
    pub(super) targets: Vec<Target>,
}

/// How values are written.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct FieldConfig {
    #[serde(default)]
    pub(super) defaults: Defaults,
}

/// How values are written where nothing else is said.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Defaults {
    pub(super) unit: Option<String>,
}

/// One query.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Target {
    pub(super) datasource: Option<Datasource>,
    #[serde(default)]
    pub(super) expr: String,
}
