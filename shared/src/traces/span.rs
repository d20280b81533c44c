//! A span that is made when it ends.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// A span. Without [`record`](Self::record), it is not exported.
#[derive(Debug)]
#[must_use]
pub struct Span(Box<SpanData>);

impl Span {
    /// The span with the first id, a child of the second one, that begins now.
    pub(super) fn new(
        trace: TraceId,
        (id, parent): (SpanId, SpanId),
        name: &'static str,
        kind: SpanKind,
    ) -> Self {
        let context = SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE);
        let now = SystemTime::now();
        Self(Box::new(SpanData {
            span_context: context,
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: kind,
            name: name.into(),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("im").build(),
        }))
    }

    /// It began at that time.
    pub fn began(mut self, at: SystemTime) -> Self {
        self.0.start_time = at;
        self
    }

    /// It began that long ago.
    pub fn lasted(self, time: Duration) -> Self {
        let now = self.0.end_time;
        self.began(now.checked_sub(time).unwrap_or(now))
    }

    /// Its parent is a span of another process.
    pub fn remote(mut self) -> Self {
        self.0.parent_span_is_remote = true;
        self
    }

    /// Adds an attribute, never of a message's content.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Adds a count.
    pub fn count(self, key: &'static str, value: usize) -> Self {
        self.with(key, i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// It failed.
    pub fn failed(mut self, why: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        self.0.status = Status::error(why);
        self
    }

    /// It ends now and is exported. Never waits: without room in the queue it is dropped and counted.
    pub fn record(mut self) {
        // A start by the clock of another host may be later.
        self.0.end_time = SystemTime::now().max(self.0.start_time);
        super::export::record(*self.0);
    }
}
