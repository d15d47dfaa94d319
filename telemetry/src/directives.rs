//! Which lines are written, as people say it.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// Filter directives that were checked: a level, or `TARGET=LEVEL`, several with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives(String);

/// What is wrong with filter directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFilter {
    directive: String,
    why: String,
}

impl fmt::Display for BadFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directive, why } = self;
        write!(
            formatter,
            "\"{directive}\" is no filter directive ({why}): give a level (off, error, warn, info, debug, trace) or \
             MODULE=LEVEL, several with commas, such as info,harmony_collector=debug"
        )
    }
}

impl std::error::Error for BadFilter {}

impl Directives {
    /// Nothing is asked for: a program's own default holds.
    pub(crate) fn none() -> Self {
        Self(String::new())
    }

    pub(crate) fn filter(&self) -> EnvFilter {
        // Only kinds that were shown can be left out, so this shows nothing that the user does not want to see.
        EnvFilter::new(format!("{},{}=trace", self.0, crate::limit::TARGET))
    }

    /// As they were given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Directives {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Directives {
    type Err = BadFilter;

    fn from_str(text: &str) -> Result<Self, BadFilter> {
        let text = text.trim();
        let bad = |directive: &str, why: String| BadFilter {
            directive: directive.to_owned(),
            why,
        };
        if text.split(',').all(|part| part.trim().is_empty()) {
            return Err(bad(text, "it is empty".to_owned()));
        }
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => {
                let is_bad = |part: &&str| EnvFilter::builder().parse(part).is_err();
                let culprit = text.split(',').find(is_bad).unwrap_or(text);
                Err(bad(culprit, error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_filters_stay_as_they_are() {
        for text in ["warn", "info,harmony_collector=debug", "off"] {
            assert_eq!(text.parse::<Directives>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_bad_one_is_named_with_the_way_out() {
        let error = "info,harmony_worker=lout"
            .parse::<Directives>()
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("\"harmony_worker=lout\" is no filter directive"),
            "{error}"
        );
        assert!(error.contains("such as info,harmony_collector=debug"), "{error}");
        assert!("  ".parse::<Directives>().is_err());
    }
}
