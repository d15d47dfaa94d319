//! From the text of a file to a [`ValidatedBatch`], or to every problem in it.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt as _, Resource as _};
use serde::Deserialize as _;
use serde_json::Value;

use crate::batch::ValidatedBatch;
use crate::limits::MAX_FILE;
use crate::node::Node;
use crate::problem::{FieldPath, InvalidBatch, Place, Problem};
use crate::shape;
use crate::spec::HarmonyBatch;
use crate::validate::{Finding, validate_for_cluster, validate_for_laptop};

/// Printed once: the schema of a pod template is large.
static FILE_SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(file_schema);

const TOP: Place = Place { line: 1, column: 1 };

/// Reads a batch from the text of a file, to run on this machine. `file` is how messages name the file.
pub fn parse(yaml: &str, file: &str) -> Result<ValidatedBatch, InvalidBatch> {
    let (batch, _) = read(yaml, validate_for_laptop).map_err(|problems| InvalidBatch::new(file, problems))?;
    Ok(batch)
}

/// Reads a batch from the text of a file, to run on a cluster: the object to apply, as it is written.
pub fn parse_for_cluster(yaml: &str, file: &str) -> Result<Value, InvalidBatch> {
    let (_, object) = read(yaml, validate_for_cluster).map_err(|problems| InvalidBatch::new(file, problems))?;
    Ok(object)
}

/// What makes a resource of the right shape a valid batch.
type Validate = fn(&HarmonyBatch) -> Result<ValidatedBatch, Vec<Finding>>;

fn read(yaml: &str, validate: Validate) -> Result<(ValidatedBatch, Value), Vec<Problem>> {
    if yaml.len() > MAX_FILE {
        let message = format!(
            "holds {} bytes, expected at most {MAX_FILE}; tasks.lines takes any number of tasks",
            yaml.len()
        );
        return Err(vec![whole_file(message)]);
    }
    let document = Node::read(yaml).map_err(|problem| vec![problem])?;
    if document.is_null() {
        return Err(vec![whole_file("is empty, expected a HarmonyBatch".to_owned())]);
    }
    check_shape(&document)?;
    let object = document.to_value();
    let batch = HarmonyBatch::deserialize(&object).map_err(|error| vec![whole_file(error.to_string())])?;
    let valid = validate(&batch).map_err(|findings| {
        let located = findings.into_iter().map(|Finding { path, message }| Problem {
            place: document.place_of(&path),
            path,
            message,
        });
        located.collect::<Vec<_>>()
    })?;
    Ok((valid, object))
}

fn check_shape(document: &Node) -> Result<(), Vec<Problem>> {
    let mut problems = shape::check(document, &FieldPath::default(), &FILE_SCHEMA);
    // In a file of another kind everything else is wrong too, which helps no one.
    let identity = [FieldPath::of(&["apiVersion"]), FieldPath::of(&["kind"])];
    if problems.iter().any(|problem| identity.contains(&problem.path)) {
        problems.retain(|problem| identity.contains(&problem.path));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn whole_file(message: String) -> Problem {
    Problem {
        place: TOP,
        path: FieldPath::default(),
        message,
    }
}

/// The schema of a file: the one of the resource, plus the fields that all resources have.
fn file_schema() -> JSONSchemaProps {
    let mut versions = HarmonyBatch::crd().spec.versions.into_iter();
    let resource = versions
        .find_map(|version| version.schema?.open_api_v3_schema)
        .unwrap_or_default();
    let spec = resource
        .properties
        .unwrap_or_default()
        .remove("spec")
        .unwrap_or_default();
    object(
        [
            ("apiVersion", constant(&HarmonyBatch::api_version(&()))),
            ("kind", constant(&HarmonyBatch::kind(&()))),
            ("metadata", metadata_schema()),
            ("spec", spec),
        ],
        &["apiVersion", "kind", "metadata", "spec"],
    )
}

fn metadata_schema() -> JSONSchemaProps {
    object(
        [
            (
                "name",
                JSONSchemaProps {
                    title: Some("a name".into()),
                    ..text()
                },
            ),
            ("namespace", text()),
            ("labels", text_map()),
            ("annotations", text_map()),
        ],
        &["name"],
    )
}

fn object<const N: usize>(fields: [(&str, JSONSchemaProps); N], required: &[&str]) -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("object".into()),
        properties: Some(
            fields
                .into_iter()
                .map(|(name, schema)| (name.to_owned(), schema))
                .collect(),
        ),
        required: Some(required.iter().map(|&name| name.to_owned()).collect()),
        ..JSONSchemaProps::default()
    }
}

fn constant(value: &str) -> JSONSchemaProps {
    JSONSchemaProps {
        enum_: Some(vec![JSON(value.into())]),
        ..text()
    }
}

fn text() -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("string".into()),
        ..JSONSchemaProps::default()
    }
}

fn text_map() -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("object".into()),
        nullable: Some(true),
        additional_properties: Some(JSONSchemaPropsOrBool::Schema(Box::new(text()))),
        ..JSONSchemaProps::default()
    }
}
