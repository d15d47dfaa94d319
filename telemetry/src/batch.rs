//! Of which batch a line tells: the field `batch` of the event, or of a span around it.

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The name of a batch, as lines have it.
pub(crate) type Batch = Arc<str>;

/// Keeps the batch of a new span.
pub(crate) fn note<S: Subscriber + for<'a> LookupSpan<'a>>(
    attributes: &Attributes<'_>,
    id: &Id,
    context: &Context<'_, S>,
) {
    let mut found = Found(None);
    attributes.record(&mut found);
    if let (Some(batch), Some(span)) = (found.0, context.span(id)) {
        span.extensions_mut().insert(Noted(batch));
    }
}

/// The batch of a line; what is said last is nearest.
pub(crate) fn of<S: Subscriber + for<'a> LookupSpan<'a>>(event: &Event<'_>, context: &Context<'_, S>) -> Option<Batch> {
    let mut found = Found(None);
    event.record(&mut found);
    let of_spans = || {
        let mut around = context.event_scope(event)?;
        around.find_map(|span| span.extensions().get::<Noted>().map(|noted| Arc::clone(&noted.0)))
    };
    found.0.or_else(of_spans)
}

struct Noted(Batch);

struct Found(Option<Batch>);

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "batch" {
            self.0 = Some(format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "batch" {
            self.0 = Some(value.into());
        }
    }
}
