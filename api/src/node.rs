//! A YAML document as a tree in which every value knows its place in the file.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::{Error, Location, MessageFormatter as _, Spanned, UserMessageFormatter, budget, options};

use crate::limits::MAX_DEPTH;
use crate::problem::{FieldPath, Place, Problem, Step};

/// The characters of a wrong value that a message repeats.
const SHOWN: usize = 60;

/// A value and its place.
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// What a node holds. Scalars are never lists or objects.
pub(crate) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A field of a mapping.
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) node: Node,
}

impl Node {
    /// Reads one document.
    pub(crate) fn read(yaml: &str) -> Result<Self, Problem> {
        let bounded = options! { budget: budget! { max_depth: MAX_DEPTH } };
        serde_saphyr::from_str_with_options(yaml, bounded).map_err(|error| unreadable(&error))
    }

    /// Whether there is no value.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// The place of the value at `path`, or of its closest ancestor.
    pub(crate) fn place_of(&self, path: &FieldPath) -> Place {
        let mut node = self;
        for step in path.steps() {
            let child = match (&node.content, step) {
                (Content::Mapping(entries), Step::Field(name)) => entries
                    .iter()
                    .find(|entry| entry.name == *name)
                    .map(|entry| &entry.node),
                (Content::List(nodes), Step::Entry(index)) => nodes.get(*index),
                _ => None,
            };
            match child {
                Some(child) => node = child,
                None => break,
            }
        }
        node.place
    }

    /// The plain value. Fields without a value are left out, as the API server does it.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(nodes) => nodes.iter().map(Self::to_value).collect(),
            Content::Mapping(entries) => {
                let present = entries.iter().filter(|entry| !entry.node.is_null());
                Value::Object(
                    present
                        .map(|entry| (entry.name.clone(), entry.node.to_value()))
                        .collect(),
                )
            }
        }
    }
}

/// Shows what was found, cut to a readable length.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Scalar(value) => f.write_str(&shown(value)),
            Content::List(_) => f.write_str("a list"),
            Content::Mapping(_) => f.write_str("a mapping"),
        }
    }
}

/// A value as a message repeats it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > SHOWN => {
            let head: String = text.chars().take(SHOWN).collect();
            format!("{}...", Value::String(head))
        }
        value => value.to_string(),
    }
}

fn unreadable(error: &Error) -> Problem {
    let message = match error.without_snippet() {
        Error::MultipleDocuments { .. } => {
            "holds more than one document; write each batch into a file of its own".into()
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the field {key} is there twice"),
        plain => UserMessageFormatter.format_message(plain).into_owned(),
    };
    let place = error.location().map_or(Place { line: 1, column: 1 }, Place::from);
    Problem {
        place,
        path: FieldPath::default(),
        message,
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self {
            place: spanned.referenced.into(),
            content: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Content::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, node)) = mapping.next_entry::<Spanned<String>, Node>()? {
            entries.push(Entry {
                place: name.referenced.into(),
                name: name.value,
                node,
            });
        }
        Ok(Content::Mapping(entries))
    }
}
