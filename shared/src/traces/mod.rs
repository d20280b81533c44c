//! Traces of single messages: from the frame of the sender to the sockets of the readers.
//!
//! A trace is recorded for a sample of messages only. The gateway that receives a message decides; a message without a trace
//! has no place for one but an empty pointer, and no byte in the bodies. The trace of a message has an id that is made from
//! the identity of the message, so that its retries are in the same trace and `imctl trace` can name it.
//!
//! Spans are made by hand when they have ended, and exported in the background ([`export`]). Nothing here waits or fails.

mod context;
pub mod export;
mod failures;
mod span;

pub use context::{MessageTrace, trace_id};
pub use export::{TraceExport, TraceSettings, is_exporting};
pub use opentelemetry::trace::{SpanKind, TraceId};
pub use span::Span;
