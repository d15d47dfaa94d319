//! The rules of [Grafana's dashboard-linter](https://github.com/grafana/dashboard-linter), under its names, and some of ours.
//!
//! `template-instance-rule` and `target-instance-rule` are left out: what is shown belongs to a batch, whose pods come and go.

use std::collections::BTreeSet;

use super::model::{Dashboard, Datasource, Panel, Target, Variable};
use super::promql::{Selected, selected};

/// The data source that every query names.
const DATASOURCE: &str = "${datasource}";
/// Grafana's names of the units that are used; an unknown one is shown as a suffix, which nobody notices.
const UNITS: [&str; 8] = [
    "short",
    "percentunit",
    "s",
    "bytes",
    "Bps",
    "ops",
    "reqps",
    "dateTimeFromNow",
];
/// What only ever grows until its process ends.
const COUNTERS: [&str; 4] = ["_total", "_bucket", "_count", "_sum"];
/// Variables are asked for anew when the time range changes.
const ON_TIME_RANGE: u8 = 2;
/// Headings of rows.
const ROW: &str = "row";

/// What is wrong about a dashboard.
pub(super) fn findings(dashboard: &Dashboard) -> Vec<String> {
    let mut found = whole(dashboard);
    found.extend(dashboard.templating.list.iter().filter_map(variable));
    for annotation in &dashboard.annotations.list {
        let wrong = query(&annotation.expr).into_iter();
        found.extend(wrong.map(|finding| format!("annotation {}: {finding}", annotation.name)));
    }
    for one in dashboard.panels.iter().filter(|panel| panel.kind != ROW) {
        let wrong = panel(one).into_iter();
        found.extend(wrong.map(|finding| format!("panel {:?}: {finding}", one.title)));
    }
    let mut titles = BTreeSet::new();
    let twice = dashboard
        .panels
        .iter()
        .filter(|panel| panel.kind != ROW && !titles.insert(&panel.title));
    found.extend(twice.map(|panel| format!("panel {:?}: another one has this title", panel.title)));
    found
}

/// Harmony's metrics that it shows.
pub(super) fn metrics(dashboard: &Dashboard) -> BTreeSet<String> {
    let targets = dashboard.panels.iter().flat_map(|panel| &panel.targets);
    let selectors = targets.flat_map(|target| selected(&target.expr).unwrap_or_default());
    let metrics = selectors.map(|selected| selected.metric);
    metrics.filter(|metric| metric.starts_with("harmony_")).collect()
}

fn says(finding: &str, holds: bool) -> Option<String> {
    (!holds).then(|| finding.to_owned())
}

fn is_ours(datasource: Option<&Datasource>) -> bool {
    datasource.is_some_and(|datasource| datasource.uid == DATASOURCE)
}

fn whole(dashboard: &Dashboard) -> Vec<String> {
    let variables = &dashboard.templating.list;
    let is_source = |variable: &Variable| {
        (variable.name.as_str(), variable.kind.as_str()) == ("datasource", "datasource")
            && variable.label == "Data source"
            && variable.query == "prometheus"
    };
    let is_job = |variable: &&Variable| variable.name == "job" && variable.kind == "query" && variable.label == "Job";
    let job = variables.iter().find(is_job);
    let job = job.is_some_and(|job| job.multi && job.all_value.as_deref() == Some(".+"));
    let links = &dashboard.links;
    [
        says("uneditable-dashboard: it is editable", !dashboard.editable),
        says(
            "template-datasource-rule: the first variable is no data source",
            variables.first().is_some_and(is_source),
        ),
        says(
            "template-job-rule: no variable job of several values and .+ for all",
            job,
        ),
        says(
            "its uid does not begin with harmony-",
            dashboard.uid.starts_with("harmony-"),
        ),
        says(
            "its title does not begin with Harmony / ",
            dashboard.title.starts_with("Harmony / "),
        ),
        says(
            "the tag harmony is missing",
            dashboard.tags.iter().any(|tag| tag == "harmony"),
        ),
        says(
            "no link to the others, or one that forgets variables or time",
            !links.is_empty() && links.iter().all(|link| link.include_vars && link.keep_time),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn variable(variable: &Variable) -> Option<String> {
    if variable.kind != "query" {
        return None;
    }
    let about = |finding: &str| Some(format!("variable {}: {finding}", variable.name));
    if variable.refresh != ON_TIME_RANGE {
        return about("template-on-time-change-reload-rule: not asked for anew when the time range changes");
    }
    if !is_ours(variable.datasource.as_ref()) {
        return about("template-datasource-rule: not of ${datasource}");
    }
    let asked = variable.definition.strip_prefix("label_values(");
    let asked = asked.and_then(|rest| rest.strip_suffix(')')?.rsplit_once(','));
    let Some((query, _)) = asked else {
        return about("template-label-promql-rule: no label_values(QUERY, LABEL)");
    };
    let wrong = selected(query).err()?;
    about(&format!("template-label-promql-rule: {wrong}"))
}

fn panel(panel: &Panel) -> Vec<String> {
    let unit = panel.field_config.defaults.unit.as_deref().unwrap_or_default();
    let told = !panel.title.is_empty() && !panel.description.is_empty();
    let own = [
        says(
            "panel-datasource-rule: not of ${datasource}",
            is_ours(panel.datasource.as_ref()),
        ),
        says("panel-title-description-rule: no title, or no description", told),
        says("panel-no-targets-rule: it has no query", !panel.targets.is_empty()),
        says(
            &format!("panel-units-rule: the unit {unit:?} is none of {UNITS:?}"),
            UNITS.contains(&unit),
        ),
    ];
    let targets = panel.targets.iter().flat_map(target);
    own.into_iter().flatten().chain(targets).collect()
}

fn target(target: &Target) -> Vec<String> {
    let mut found = query(&target.expr);
    found.extend(says(
        "panel-datasource-rule: a query not of ${datasource}",
        is_ours(target.datasource.as_ref()),
    ));
    found
}

fn query(expr: &str) -> Vec<String> {
    match selected(expr) {
        Ok(selectors) if selectors.is_empty() => vec!["target-promql-rule: it selects nothing".to_owned()],
        Ok(selectors) => selectors.iter().flat_map(selector).collect(),
        Err(wrong) => vec![format!("target-promql-rule: {wrong}")],
    }
}

fn selector(selected: &Selected) -> Vec<String> {
    let metric = &selected.metric;
    let is_counter = COUNTERS.iter().any(|suffix| metric.ends_with(suffix));
    let range = match selected.range.as_deref() {
        None | Some("$__rate_interval") => true,
        Some("$__range") => selected.is_argument_of("increase"),
        Some(_) => false,
    };
    [
        says(
            &format!("target-job-rule: {metric} is not of job=~\"$job\""),
            selected.is_filtered_by("job"),
        ),
        says(
            &format!("target-counter-agg-rule: {metric} is a counter, and no rate is taken"),
            !is_counter || selected.is_increase(),
        ),
        says(
            &format!("target-rate-interval-rule: the range of {metric} is not $__rate_interval"),
            range,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        json!({
            "uid": "harmony-x", "title": "Harmony / X", "tags": ["harmony"], "editable": false,
            "links": [{"includeVars": true, "keepTime": true}],
            "annotations": {"list": [{"name": "A", "expr": "a{job=~\"$job\"}"}]},
            "templating": {"list": [
                {"name": "datasource", "type": "datasource", "label": "Data source", "query": "prometheus"},
                {"name": "job", "type": "query", "label": "Job", "datasource": source, "refresh": 2, "multi": true,
                 "allValue": ".+", "definition": "label_values(a, job)"},
            ]},
            "panels": [
                {"type": "row", "title": "R"},
                {"type": "stat", "title": "S", "description": "D", "datasource": source,
                 "fieldConfig": {"defaults": {"unit": "s"}},
                 "targets": [{"datasource": source, "expr": "rate(harmony_x_total{job=~\"$job\"}[$__rate_interval])"}]},
            ],
        })
    }

    fn found(dashboard: Value) -> Vec<String> {
        findings(&serde_json::from_value(dashboard).unwrap())
    }

    #[test]
    fn a_good_dashboard_has_no_findings() {
        assert_eq!(found(good()), Vec::<String>::new());
        let dashboard = serde_json::from_value(good()).unwrap();
        assert_eq!(metrics(&dashboard), BTreeSet::from(["harmony_x_total".to_owned()]));
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let query = "/panels/1/targets/0/expr";
        let broken = [
            ("/editable", json!(true), "uneditable-dashboard"),
            ("/templating/list/0/query", json!("loki"), "template-datasource-rule"),
            ("/templating/list/1/multi", json!(false), "template-job-rule"),
            (
                "/templating/list/1/refresh",
                json!(1),
                "template-on-time-change-reload-rule",
            ),
            (
                "/templating/list/1/definition",
                json!("label_values(a{, job)"),
                "template-label-promql-rule",
            ),
            (
                "/templating/list/1/datasource/uid",
                json!("x"),
                "template-datasource-rule",
            ),
            ("/uid", json!("x"), "its uid"),
            ("/title", json!("x"), "its title"),
            ("/tags", json!([]), "the tag harmony"),
            ("/links/0/keepTime", json!(false), "no link"),
            ("/annotations/list/0/expr", json!("a"), "target-job-rule"),
            ("/panels/1/datasource/uid", json!("x"), "panel-datasource-rule"),
            ("/panels/1/description", json!(""), "panel-title-description-rule"),
            ("/panels/1/targets", json!([]), "panel-no-targets-rule"),
            (
                "/panels/1/fieldConfig/defaults/unit",
                json!("seconds"),
                "panel-units-rule",
            ),
            (
                "/panels/1/targets/0/datasource/uid",
                json!("x"),
                "panel-datasource-rule",
            ),
            ("/panels/0", good()["panels"][1].clone(), "another one has this title"),
            (query, json!("sum("), "target-promql-rule"),
            (query, json!("vector(1)"), "target-promql-rule"),
            (query, json!("a{job=\"x\"}"), "target-job-rule"),
            (query, json!("sum(a_total{job=~\"$job\"})"), "target-counter-agg-rule"),
            (
                query,
                json!("rate(a_total{job=~\"$job\"}[5m])"),
                "target-rate-interval-rule",
            ),
            (
                query,
                json!("rate(a_total{job=~\"$job\"}[$__range])"),
                "target-rate-interval-rule",
            ),
        ];
        for (place, value, rule) in broken {
            let mut dashboard = good();
            *dashboard.pointer_mut(place).unwrap() = value;
            let found = found(dashboard);
            assert!(
                matches!(found.as_slice(), [one] if one.contains(rule)),
                "{place}: {found:?}"
            );
        }
    }
}
