//! Spans for an OTLP receiver. Without one nothing is made.
//!
//! A batch's uid is its trace id, and the span of a ventilator is named by uid and epoch: so every process finds the trace
//! and the parent by itself, and no message carries them.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};
use url::Url;
use uuid::Uuid;

use crate::LogArgs;

/// How long the last spans may take at the end of a process.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

struct Spans {
    /// Has a bounded queue and a thread of its own; what does not fit is dropped. `OTEL_BSP_*` says more.
    processor: BatchSpanProcessor,
    ratio: f64,
    scope: InstrumentationScope,
    flags: Vec<String>,
}

static SPANS: OnceLock<Spans> = OnceLock::new();

/// Spans are sent from now on, if somebody is to have them.
pub(crate) fn start(args: &LogArgs) {
    let Some(endpoint) = &args.otlp_endpoint else { return };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(traces_at(endpoint))
        .build();
    match exporter {
        Ok(exporter) => {
            let mut processor = BatchSpanProcessor::builder(exporter).build();
            processor.set_resource(&Resource::builder().with_service_name("harmony").build());
            let spans = Spans {
                processor,
                ratio: args.otlp_ratio.unwrap_or(1.0),
                flags: args.trace_flags(),
                scope: InstrumentationScope::builder("harmony").build(),
            };
            let _ = SPANS.set(spans);
        }
        Err(error) => tracing::error!(%error, "nothing is traced"),
    }
}

/// Whether anybody is to have spans.
pub fn are_made() -> bool {
    SPANS.get().is_some()
}

/// The flags by which a process that this one starts traces as this one does: none while nothing is traced. Not its
/// environment, which tasks inherit.
pub fn flags() -> &'static [String] {
    SPANS.get().map_or(&[], |spans| &spans.flags)
}

/// Where traces go, as OTLP has it: a path below the endpoint.
fn traces_at(endpoint: &Url) -> String {
    format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'))
}

/// Sends what waits.
pub(crate) fn flush() {
    if let Some(spans) = SPANS.get()
        && let Err(error) = spans.processor.shutdown_with_timeout(FLUSH_WITHIN)
    {
        tracing::warn!(%error, "the last spans may be lost");
    }
}

/// A span that has begun.
#[derive(Debug)]
pub struct Span {
    name: &'static str,
    uid: Uuid,
    id: u64,
    parent: Option<u64>,
    start: SystemTime,
    attributes: Vec<KeyValue>,
}

impl Span {
    /// The span of a ventilator; none while nothing is traced.
    pub fn batch(uid: Uuid, epoch: u64) -> Option<Self> {
        SPANS.get()?;
        Some(Self::new("batch", uid, batch_id(uid, epoch), None))
    }

    /// A span below that of a ventilator; none while nothing is traced, or this one is not among the sampled. `key` tells
    /// it from its siblings.
    pub fn below_batch(name: &'static str, uid: Uuid, epoch: u64, key: u64) -> Option<Self> {
        let spans = SPANS.get()?;
        let parent = batch_id(uid, epoch);
        let id = mixed(parent ^ mixed(key));
        is_sampled(id, spans.ratio).then(|| Self::new(name, uid, id, Some(parent)))
    }

    fn new(name: &'static str, uid: Uuid, id: u64, parent: Option<u64>) -> Self {
        Self {
            name,
            uid,
            id,
            parent,
            start: SystemTime::now(),
            attributes: Vec::new(),
        }
    }

    /// Says something of it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(name, value.into()));
        self
    }

    /// It ends now.
    pub fn end(self) {
        let Some(spans) = SPANS.get() else { return };
        let context = SpanContext::new(
            TraceId::from_bytes(self.uid.into_bytes()),
            SpanId::from(self.id),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        spans.processor.on_end(SpanData {
            span_context: context,
            parent_span_id: self.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(self.name),
            start_time: self.start,
            end_time: SystemTime::now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: spans.scope.clone(),
        });
    }
}

/// The same in every process.
fn batch_id(uid: Uuid, epoch: u64) -> u64 {
    let (high, low) = uid.as_u64_pair();
    mixed(high ^ mixed(low ^ mixed(epoch)))
}

/// A bijection that leaves no pattern (the finisher of `SplitMix64`), and never gives 0, which is no span id.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (value ^ (value >> 31)).max(1)
}

/// Decided at the beginning, from the id alone.
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
fn is_sampled(id: u64, ratio: f64) -> bool {
    (id as f64) < ratio * (u64::MAX as f64) || ratio >= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_keeps_to_its_ratio() {
        let sampled = |ratio| (0..10_000).filter(|key| is_sampled(mixed(*key), ratio)).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&sampled(0.1)), "{}", sampled(0.1));
    }

    #[test]
    fn epochs_and_batches_have_spans_of_their_own() {
        let uids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let ids = uids.map(|uid| [1, 2].map(|epoch| batch_id(uid, epoch)));
        let mut ids = ids.concat();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn the_path_is_below_the_endpoint() {
        for endpoint in ["http://a:4318", "http://a:4318/"] {
            assert_eq!(traces_at(&endpoint.parse().unwrap()), "http://a:4318/v1/traces");
        }
    }
}
