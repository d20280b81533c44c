//! The place of a message in its trace, and its encoding.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use proto::v1;
use xxhash_rust::xxh64::Xxh64;

use super::export::is_exporting;
use super::span::Span;

/// The length of a `traceparent` of version 00.
const TRACEPARENT_CHARS: usize = 55;

/// The trace of a sampled message, and its current span: the parent of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageTrace {
    trace: TraceId,
    span: SpanId,
    since: SystemTime,
}

impl MessageTrace {
    /// The trace with this id, with a root span that begins now.
    #[must_use]
    pub fn begin(trace: TraceId) -> Self {
        Self { trace, span: random_span_id(), since: SystemTime::now() }
    }

    /// The id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// The current span, as it ends now; without a parent.
    pub fn root(&self, name: &'static str, kind: SpanKind) -> Span {
        Span::new(self.trace, (self.span, SpanId::INVALID), name, kind).began(self.since)
    }

    /// A child of the current span.
    pub fn child(&self, name: &'static str, kind: SpanKind) -> Span {
        Span::new(self.trace, (random_span_id(), self.span), name, kind)
    }

    /// A child of the current span which becomes the current one, from now on. `None` if this process exports no traces:
    /// the next process continues the earlier span.
    pub fn enter(&mut self, name: &'static str, kind: SpanKind) -> Option<Span> {
        if !is_exporting() {
            return None;
        }
        let (child, now) = (random_span_id(), SystemTime::now());
        let span = Span::new(self.trace, (child, self.span), name, kind).began(now);
        (self.span, self.since) = (child, now);
        Some(span)
    }

    /// When the current span began.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// The protobuf form.
    #[must_use]
    pub fn to_wire(&self) -> v1::TraceContext {
        let since = self.since.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        v1::TraceContext {
            traceparent: format!("00-{}-{}-01", self.trace, self.span),
            since_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The trace of a message in a body or an event; `None` if it has none.
    #[must_use]
    pub fn of_rare(rare: Option<&v1::RareFields>) -> Option<Self> {
        Self::from_wire(rare?.trace.as_ref()?)
    }

    /// Reads the protobuf form. `None` if it is malformed or not sampled: the message has no trace then.
    #[must_use]
    pub fn from_wire(wire: &v1::TraceContext) -> Option<Self> {
        let context = remote_context(&wire.traceparent)?;
        let since = UNIX_EPOCH.checked_add(Duration::from_nanos(wire.since_ns))?;
        Some(Self { trace: context.trace_id(), span: context.span_id(), since })
    }
}

/// The context in a `traceparent` of version 00 with the sampled flag; `None` if it is malformed or not sampled.
#[must_use]
fn remote_context(traceparent: &str) -> Option<SpanContext> {
    // The propagator accepts ids of other lengths, and signs.
    let is_well_formed = traceparent.len() == TRACEPARENT_CHARS
        && traceparent.starts_with("00-")
        && traceparent.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !is_well_formed {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(traceparent));
    let context = context.span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then_some(context)
}

/// The only header of a request.
struct Header<'h>(&'h str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// The id of the trace of the message with this identity (conversation, sender, message id), whether it is recorded or not.
#[must_use]
pub fn trace_id(identity: [&str; 3]) -> TraceId {
    let half = |seed| {
        let mut hash = Xxh64::new(seed);
        for part in identity {
            hash.update(part.as_bytes());
            // No id has this byte.
            hash.update(b"\n");
        }
        hash.digest()
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half(1).to_be_bytes());
    // An id of zeros is none.
    bytes[8..].copy_from_slice(&half(2).max(1).to_be_bytes());
    TraceId::from_bytes(bytes)
}

pub(super) fn random_span_id() -> SpanId {
    SpanId::from_bytes(rand::random_range(1..=u64::MAX).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_the_same_after_decoding() {
        let trace = MessageTrace::begin(trace_id(["group_1", "alice", "m1"]));
        let wire = trace.to_wire();
        assert_eq!(wire.traceparent.len(), TRACEPARENT_CHARS);
        let again = MessageTrace::from_wire(&wire).unwrap();
        assert_eq!((again.trace, again.span), (trace.trace, trace.span));
        assert_eq!(again.to_wire(), wire);
    }

    #[test]
    fn a_malformed_or_unsampled_context_is_none() {
        assert!(remote_context(GOOD).is_some());
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\u{e9}",
        ] {
            assert_eq!(remote_context(bad), None, "{bad}");
            let wire = v1::TraceContext { traceparent: bad.to_owned(), since_ns: 1 };
            assert_eq!(MessageTrace::from_wire(&wire), None, "{bad}");
        }
    }

    #[test]
    fn retries_share_a_trace_and_other_messages_do_not() {
        let first = trace_id(["group_1", "alice", "m1"]);
        assert_eq!(trace_id(["group_1", "alice", "m1"]), first);
        for other in [["group_2", "alice", "m1"], ["group_1", "bob", "m1"], ["group_1", "alice", "m2"]] {
            assert_ne!(trace_id(other), first);
        }
        let attempt = || MessageTrace::begin(first).span;
        assert_ne!(attempt(), attempt(), "each attempt is a span of its own");
    }

    #[test]
    fn a_process_without_export_leaves_the_context_as_it_is() {
        let mut trace = MessageTrace::begin(trace_id(["group_1", "alice", "m1"]));
        let before = trace;
        assert!(trace.enter("commit", SpanKind::Client).is_none());
        assert_eq!(trace, before);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}", since_ns in any::<u64>()) {
            let _ = MessageTrace::from_wire(&v1::TraceContext { traceparent: text, since_ns });
        }
    }
}
