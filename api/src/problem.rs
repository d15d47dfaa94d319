//! What is wrong with a batch, and where.

use std::fmt;

use crate::limits::MAX_PROBLEMS;

/// A position in a file, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// The way to a field, from the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(Vec<Step>);

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into the field of a mapping.
    Field(String),
    /// Into the entry of a list.
    Entry(usize),
}

impl FieldPath {
    /// The path made of these fields.
    pub(crate) fn of(fields: &[&str]) -> Self {
        Self(fields.iter().map(|&field| Step::Field(field.to_owned())).collect())
    }

    /// The path of a field below this one.
    pub(crate) fn field(&self, name: &str) -> Self {
        self.child(Step::Field(name.to_owned()))
    }

    /// The path of an entry of the list at this path.
    pub(crate) fn entry(&self, index: usize) -> Self {
        self.child(Step::Entry(index))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    fn child(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if depth == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Entry(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file.
    pub place: Place,
    /// Which field; empty if the file as a whole is meant.
    pub path: FieldPath,
    /// What was found, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.place.line, self.place.column)?;
        if !self.path.steps().is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A file that holds no valid batch: every problem that was found, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidBatch {
    /// The file, as the user named it.
    pub file: String,
    /// At least one, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub omitted: usize,
}

impl InvalidBatch {
    pub(crate) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        let omitted = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        Self {
            file: file.to_owned(),
            problems,
            omitted,
        }
    }
}

impl fmt::Display for InvalidBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{problem}", self.file)?;
        }
        if self.omitted > 0 {
            write!(f, "\n{}: and {} more problems", self.file, self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidBatch {}
