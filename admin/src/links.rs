//! The links of a process, or of one of its batches.

use harmony_transport::{CloseReason, Counters};

use crate::Metrics;

/// Shows what happened on links.
pub fn observe_links(metrics: &mut Metrics, labels: &[(&str, &str)], counters: &Counters) {
    metrics.gauge("harmony_links", "Links that stand.", labels, counters.links);
    for (direction, traffic) in [("sent", &counters.sent), ("received", &counters.received)] {
        let labels = [labels, &[("direction", direction)]].concat();
        let help = "Messages on links; each is sent by one process and received by another.";
        metrics.counter("harmony_link_messages_total", help, &labels, traffic.messages);
        let help = "Bytes of messages on links.";
        metrics.counter("harmony_link_bytes_total", help, &labels, traffic.bytes);
    }
    for reason in CloseReason::LABELS {
        let labels = [labels, &[("reason", reason)]].concat();
        let closed = counters.closed.get(reason).copied().unwrap_or_default();
        let help = "Links that ended, dials that failed included, by why.";
        metrics.counter("harmony_links_closed_total", help, &labels, closed);
    }
}
