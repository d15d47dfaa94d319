//! The table of values in the chart's README, from their schema and their defaults.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

/// What is before and after the table.
const BEGIN: &str = "<!-- values: written by cargo xtask chart -->\n";
const END: &str = "<!-- end of values -->";

/// A row for each value that can be set.
pub(super) fn table(schema: &str, values: &str) -> Result<String> {
    let schema: Value = serde_json::from_str(schema).context("values.schema.json")?;
    let values: Value = serde_saphyr::from_str(values).context("values.yaml")?;
    let mut rows = "| value | default | what |\n|---|---|---|\n".to_owned();
    add(&mut rows, "", &schema, &values)?;
    Ok(rows)
}

fn add(rows: &mut String, path: &str, schema: &Value, default: &Value) -> Result<()> {
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        return add_fields(rows, path, fields, default);
    }
    let what = schema.get("description").and_then(Value::as_str);
    let what = what.with_context(|| format!("values.schema.json does not describe {path}"))?;
    let what = what.replace('|', "\\|");
    writeln!(rows, "| `{path}` | `{default}` | {what} |")?;
    Ok(())
}

fn add_fields(rows: &mut String, path: &str, fields: &Map<String, Value>, defaults: &Value) -> Result<()> {
    for (name, field) in fields {
        // Helm's own, for charts that hold this one.
        if path.is_empty() && name == "global" {
            continue;
        }
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let default = defaults.get(name);
        let default = default.with_context(|| format!("values.yaml has no default of {path}"))?;
        add(rows, &path, field, default)?;
    }
    Ok(())
}

/// A text with this table in place of the one that it has.
pub(super) fn replaced(text: &str, table: &str) -> Result<String> {
    let missing = || format!("README.md has no place for the table, between {BEGIN:?} and {END:?}");
    let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"properties": {
        "global": {"type": "object"},
        "a": {"properties": {"b": {"description": "How many | much."}}},
        "c": {"description": "Where."}
    }}"#;

    #[test]
    fn each_value_is_a_row_with_its_default() {
        let table = table(SCHEMA, "a: {b: 2}\nc: [x]\n").unwrap();
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            ["| `a.b` | `2` | How many \\| much. |", r#"| `c` | `["x"]` | Where. |"#]
        );
    }

    #[test]
    fn a_value_without_default_or_description_is_an_error() {
        assert!(table(SCHEMA, "a: {}\nc: 1\n").unwrap_err().to_string().contains("a.b"));
        let silent = r#"{"properties": {"c": {}}}"#;
        assert!(table(silent, "c: 1\n").unwrap_err().to_string().contains("describe c"));
    }

    #[test]
    fn only_the_table_is_replaced() {
        let text = format!("x\n{BEGIN}old\n{END}\ny\n");
        assert_eq!(replaced(&text, "new\n").unwrap(), format!("x\n{BEGIN}new\n{END}\ny\n"));
        assert!(replaced("x", "new").is_err());
    }
}
