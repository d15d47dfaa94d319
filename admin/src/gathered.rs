//! The metrics of several processes as one answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Families by name, with the samples of all that were added.
#[derive(Clone, Debug, Default)]
pub struct Gathered(BTreeMap<String, Family>);

#[derive(Clone, Debug, Default)]
struct Family {
    /// The lines that say its meaning and its type.
    head: Vec<String>,
    samples: Vec<String>,
}

impl Gathered {
    /// What form [`Self::encode`] gives it.
    pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

    /// Adds what a process of this project answered, each sample with more labels. Lines of another form are left out.
    pub fn add(&mut self, exposition: &str, labels: &[(&str, &str)]) {
        let mut family = String::new();
        for line in exposition.lines() {
            if let Some(name) = described(line) {
                name.clone_into(&mut family);
                let head = &mut self.0.entry(family.clone()).or_default().head;
                if !head.iter().any(|known| known == line) && head.len() < 2 {
                    head.push(line.to_owned());
                }
            } else if let Some(sample) = labelled(line, labels).filter(|_| line.starts_with(&family))
                && let Some(family) = self.0.get_mut(&family)
            {
                family.samples.push(sample);
            }
        }
    }

    /// All of it, as a scraper reads it.
    pub fn encode(&self) -> String {
        let families = self.0.values().filter(|family| !family.samples.is_empty());
        let lines = families.flat_map(|family| family.head.iter().chain(&family.samples));
        lines.fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}"); // a string takes all
            text
        })
    }
}

/// The name of the family that a line describes.
fn described(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "))?;
    rest.split(' ').next()
}

/// A sample with more labels.
fn labelled(line: &str, labels: &[(&str, &str)]) -> Option<String> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    if labels.is_empty() {
        return Some(line.to_owned());
    }
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    let labels = labels.join(",");
    Some(match rest.strip_prefix('{') {
        Some(more) => format!("{name}{{{labels},{more}"),
        None => format!("{name}{{{labels}}}{rest}"),
    })
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_several_processes_stand_together() {
        let mut gathered = Gathered::default();
        let of_collector = "# HELP b B.\n# TYPE b histogram\nb_bucket{le=\"1\"} 1\nb_sum 0.5\n# HELP a A.\n# TYPE a gauge\na 3\nnonsense\n";
        gathered.add(of_collector, &[("part", "collector")]);
        gathered.add("# HELP a A.\n# TYPE a gauge\na{x=\"{y z}\"} 4\n", &[("part", "w\"0")]);
        gathered.add("# HELP a A.\n# TYPE a gauge\na 5\n", &[]);
        let expected = "# HELP a A.\n# TYPE a gauge\na{part=\"collector\"} 3\na{part=\"w\\\"0\",x=\"{y z}\"} 4\na 5\n\
                        # HELP b B.\n# TYPE b histogram\nb_bucket{part=\"collector\",le=\"1\"} 1\nb_sum{part=\"collector\"} 0.5\n";
        assert_eq!(gathered.encode(), expected);
    }
}
