//! What a batch costs the API server, as it counts itself.

use anyhow::Result;

use crate::kubectl::kubectl;

/// The API server's count of requests at one moment.
#[derive(Clone, Debug)]
pub struct ApiRequests {
    metrics: String,
}

impl ApiRequests {
    /// The count now.
    pub async fn now() -> Result<Self> {
        let metrics = kubectl(&["get", "--raw=/metrics"]).await?;
        Ok(Self { metrics })
    }

    /// Requests so far that carry all these labels, as `("resource", "pods")`; all requests if there are none.
    pub fn sum(&self, labels: &[(&str, &str)]) -> f64 {
        let carried = |line: &&str| labels.iter().all(|(name, value)| carries(line, name, value));
        let counts = self
            .metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"));
        let value = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
        // Not `sum`, whose nothing is minus zero.
        counts
            .filter(carried)
            .filter_map(value)
            .fold(0.0, |sum, value| sum + value)
    }

    /// The same, less what there was at an `earlier` moment.
    pub fn since(&self, earlier: &Self, labels: &[(&str, &str)]) -> f64 {
        self.sum(labels) - earlier.sum(labels)
    }
}

/// Whether a line has a label of this very name.
pub(crate) fn carries(line: &str, name: &str, value: &str) -> bool {
    [format!("{{{name}=\"{value}\""), format!(",{name}=\"{value}\"")]
        .iter()
        .any(|label| line.contains(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_by_their_labels() {
        let metrics = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="pods",subresource="",verb="LIST"} 4
apiserver_request_total{code="200",resource="pods",subresource="status",verb="PATCH"} 2
apiserver_request_total{code="404",resource="leases",subresource="",verb="GET"} 1e+01
apiserver_request_duration_seconds_count{resource="pods"} 99
"#;
        let requests = ApiRequests {
            metrics: metrics.to_owned(),
        };
        let sum = |labels: &[(&str, &str)]| requests.sum(labels).to_string();
        assert_eq!(sum(&[]), "16");
        assert_eq!(sum(&[("resource", "pods")]), "6");
        assert_eq!(sum(&[("resource", "pods"), ("verb", "PATCH")]), "2");
        assert_eq!(sum(&[("resource", "status")]), "0");
    }
}
