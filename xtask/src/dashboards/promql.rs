//! What the rules need to know of a query.

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{Expr, VectorSelector, parse};

/// Functions that take the increase of a counter over a time.
const OF_COUNTERS: [&str; 3] = ["rate", "irate", "increase"];
/// What Grafana fills in, and a duration that stands for it. No dashboard would write that by hand.
const RATE_INTERVAL: (&str, &str) = ("$__rate_interval", "4241s");
const RANGE: (&str, &str) = ("$__range", "4243s");

/// A selector of series, and what is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) metric: String,
    /// Label, and value with how it is compared, as `job=~"$job"`.
    matchers: Vec<String>,
    /// The function that it is an argument of.
    function: Option<String>,
    /// The range behind it, as the dashboard writes it, or as a number of seconds.
    pub(super) range: Option<String>,
}

impl Selected {
    /// Whether a variable of this name filters it.
    pub(super) fn is_filtered_by(&self, name: &str) -> bool {
        self.matchers.contains(&format!("{name}=~\"${name}\""))
    }

    /// Whether it is the argument of a function for counters.
    pub(super) fn is_increase(&self) -> bool {
        self.function.as_deref().is_some_and(|name| OF_COUNTERS.contains(&name))
    }

    /// Whether it is the argument of this function.
    pub(super) fn is_argument_of(&self, function: &str) -> bool {
        self.function.as_deref() == Some(function)
    }
}

/// All selectors of a query, or what is wrong about it.
pub(super) fn selected(query: &str) -> Result<Vec<Selected>, String> {
    let filled = [RATE_INTERVAL, RANGE]
        .iter()
        .fold(query.to_owned(), |text, (name, value)| text.replace(name, value));
    let mut found = Vec::new();
    visit(&parse(&filled)?, None, &mut found);
    Ok(found)
}

fn visit(expr: &Expr, function: Option<&str>, found: &mut Vec<Selected>) {
    match expr {
        Expr::Aggregate(aggregate) => {
            visit(&aggregate.expr, None, found);
            if let Some(param) = &aggregate.param {
                visit(param, None, found);
            }
        }
        Expr::Unary(unary) => visit(&unary.expr, None, found),
        Expr::Binary(binary) => {
            visit(&binary.lhs, None, found);
            visit(&binary.rhs, None, found);
        }
        Expr::Paren(paren) => visit(&paren.expr, function, found),
        Expr::Subquery(subquery) => visit(&subquery.expr, None, found),
        Expr::Call(call) => {
            for argument in &call.args.args {
                visit(argument, Some(call.func.name), found);
            }
        }
        Expr::VectorSelector(vector) => found.push(selector(vector, function, None)),
        Expr::MatrixSelector(matrix) => {
            let seconds = format!("{}s", matrix.range.as_secs());
            let range = [RATE_INTERVAL, RANGE].iter().find(|(_, value)| *value == seconds);
            let range = range.map_or(seconds.clone(), |(name, _)| (*name).to_owned());
            found.push(selector(&matrix.vs, function, Some(range)));
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn selector(vector: &VectorSelector, function: Option<&str>, range: Option<String>) -> Selected {
    let written = |matcher: &Matcher| {
        let operator = match matcher.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Re(_) => "=~",
            MatchOp::NotRe(_) => "!~",
        };
        format!("{}{operator}\"{}\"", matcher.name, matcher.value)
    };
    Selected {
        metric: vector.name.clone().unwrap_or_default(),
        matchers: vector.matchers.matchers.iter().map(written).collect(),
        function: function.map(str::to_owned),
        range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found_with_what_is_made_of_them() {
        let query = "sum by (x) (rate(a_total{job=~\"$job\"}[$__rate_interval])) / on (y) max(b{job=\"$job\"}) > increase(c[5m])";
        let found = selected(query).unwrap();
        let [a, b, c] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(
            (a.metric.as_str(), a.range.as_deref()),
            ("a_total", Some("$__rate_interval"))
        );
        assert!(a.is_increase() && a.is_argument_of("rate") && a.is_filtered_by("job"));
        assert_eq!((b.metric.as_str(), b.range.as_deref()), ("b", None));
        assert!(!b.is_increase() && !b.is_filtered_by("job"));
        assert_eq!((c.metric.as_str(), c.range.as_deref()), ("c", Some("300s")));
    }

    #[test]
    fn what_is_no_query_is_refused() {
        assert!(selected("sum(").is_err());
        assert!(selected("rate(a)").is_err());
    }
}
