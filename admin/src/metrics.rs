//! Metrics that are computed when they are asked for.

use std::collections::BTreeMap;

use harmony_protocol::Durations;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use crate::Snapshot;

/// Microseconds in a second.
const MICROS: f64 = 1e6;

/// The metrics of one scrape. What is gone from the state is gone from here, too: nothing has to be removed.
#[derive(Debug, Default)]
pub struct Metrics(BTreeMap<&'static str, MetricFamily>);

impl Metrics {
    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: u64) {
        let mut gauge = Gauge::default();
        gauge.set_value(float(value));
        self.push(name, help, MetricType::GAUGE, labels, Metric::from_gauge(gauge));
    }

    /// A total since the process, or what it shows, began.
    pub fn counter(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: u64) {
        let mut counter = Counter::default();
        counter.set_value(float(value));
        let mut metric = Metric::default();
        metric.set_counter(counter);
        self.push(name, help, MetricType::COUNTER, labels, metric);
    }

    /// How durations are spread.
    pub fn durations(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], durations: &Durations) {
        let seconds = |micros| float(micros) / MICROS;
        let buckets = durations.cumulative().map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(bound));
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(durations.count());
        histogram.set_sample_sum(seconds(durations.total_micros()));
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.push(name, help, MetricType::HISTOGRAM, labels, metric);
    }

    fn push(&mut self, name: &'static str, help: &str, kind: MetricType, labels: &[(&str, &str)], mut metric: Metric) {
        metric.set_label(labels.iter().map(|(name, value)| label(name, value)).collect());
        let family = self.0.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family
        });
        family.mut_metric().push(metric);
    }

    /// All of them, as a scraper reads them.
    ///
    /// # Errors
    /// Says which metric cannot be written.
    pub fn encode(self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.into_families())
    }

    fn into_families(self) -> Vec<MetricFamily> {
        self.0.into_values().collect()
    }
}

/// What `/metrics` answers: the snapshot, what is counted as it happens, and the process.
///
/// # Errors
/// Says which metric cannot be written.
pub fn exposition(snapshot: &impl Snapshot, registry: &Registry) -> Result<String, prometheus::Error> {
    let mut metrics = Metrics::default();
    snapshot.observe(&mut metrics);
    let counted = TextEncoder::new().encode_to_string(&registry.gather())?;
    Ok(metrics.encode()? + &counted + &process()?)
}

/// What every process shows of itself.
///
/// # Errors
/// Says which metric cannot be written.
pub fn process() -> Result<String, prometheus::Error> {
    let mut metrics = Metrics::default();
    metrics.gauge(
        "harmony_build_info",
        "1, labelled by the version of Harmony.",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    metrics.counter(
        "harmony_log_lines_suppressed_total",
        "Log lines that were left out because too many of their kind came.",
        &[],
        harmony_telemetry::suppressed(),
    );
    let mut families = metrics.into_families();
    // Under Prometheus' own names, so that the dashboards people have fit.
    families.extend(ProcessCollector::for_self().collect());
    TextEncoder::new().encode_to_string(&families)
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no integers; counts stay exact below 2^53"
)]
fn float(value: u64) -> f64 {
    value as f64
}
