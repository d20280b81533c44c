//! The spans of sampled messages in a gateway that pushes them: the push, and the way to one socket.

use proto::v1;
use shared::traces::{MessageTrace, Span, SpanKind};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::outbox::Outbox;

/// The spans of the messages of one event; almost always none, without an allocation.
#[derive(Debug)]
pub(super) struct PushTraces {
    pushes: Vec<(MessageTrace, Span)>,
    /// The way to a socket is traced already.
    is_followed: bool,
}

impl PushTraces {
    pub(super) fn begin(committed: &v1::Committed) -> Self {
        let traces =
            committed.messages.iter().filter_map(|message| MessageTrace::of_rare(message.rare.as_deref()));
        let pushes = traces.filter_map(|mut trace| {
            let span = trace.enter("push", SpanKind::Consumer)?;
            Some((trace, span.remote()))
        });
        Self { pushes: pushes.collect(), is_followed: false }
    }

    /// `frame` is about to be added to this outbox: of the first one, the way to the socket is traced.
    pub(super) fn follow(&mut self, frame: &Utf8Bytes, outbox: &Outbox) {
        if self.pushes.is_empty() || std::mem::replace(&mut self.is_followed, true) {
            return;
        }
        let ways = self
            .pushes
            .iter()
            .map(|(trace, _)| trace.child("socket", SpanKind::Internal).count("im.frame.size", frame.len()));
        outbox.trace(frame, ways.collect());
    }

    /// The messages were added to as many outboxes. Of none: the gateway has no part in the trace.
    pub(super) fn end(self, connections: u64) {
        if connections == 0 {
            return;
        }
        for (_, span) in self.pushes {
            span.with("messaging.system", "rabbitmq")
                .with("messaging.operation.type", "process")
                .with("im.connections", i64::try_from(connections).unwrap_or(i64::MAX))
                .record();
        }
    }
}
