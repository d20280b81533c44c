//! Which messages have a trace, and the root span of each.
//!
//! Only the gateway decides. A `traceparent` of a client is not looked at: its flag would let anybody cause as many traces as
//! there are messages.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::ids::Seq;
use shared::message::MessageId;
use shared::traces::{MessageTrace, SpanKind};

use crate::config::Traces;

/// Decides for each message whether its trace is recorded.
#[derive(Debug)]
pub(super) struct Sampler {
    ratio: f64,
    limit: DefaultDirectRateLimiter,
}

impl Sampler {
    /// `None` if no message has a trace.
    pub(super) fn new(settings: &Traces) -> Option<Self> {
        if settings.otlp_endpoint.is_empty() || settings.sample_ratio <= 0.0 {
            return None;
        }
        let per_second = NonZeroU32::new(settings.per_second_max)?;
        let limit = RateLimiter::direct(Quota::per_second(per_second));
        Some(Self { ratio: settings.sample_ratio, limit })
    }

    /// The trace of a message, if it is sampled.
    pub(super) fn sample(&self, id: &MessageId) -> Option<Box<SendSpan>> {
        if rand::random::<f64>() >= self.ratio {
            return None;
        }
        if self.limit.check().is_err() {
            metrics::counter!(shared::metrics::TRACES_NOT_STARTED).increment(1);
            return None;
        }
        Some(Box::new(SendSpan { trace: MessageTrace::begin(id.trace_id()), retry: false }))
    }
}

/// The root span of a message: from its admission to the reply.
#[derive(Debug)]
pub(super) struct SendSpan {
    trace: MessageTrace,
    /// An earlier message with its id was numbered.
    pub(super) retry: bool,
}

impl SendSpan {
    /// The context of its children.
    pub(super) fn trace(&self) -> MessageTrace {
        self.trace
    }

    /// The reply is sent: the span ends. `reply`: the sequence number, or the code of the refusal.
    pub(super) fn end(self, id: &MessageId, reply: Result<Seq, u16>) {
        let span = self
            .trace
            .root("send", SpanKind::Server)
            .with("messaging.message.id", id.msg_id.as_str().to_owned())
            .with("messaging.message.conversation_id", id.conversation.key().to_owned())
            .with("im.message.retry", self.retry);
        match reply {
            Ok(seq) => span.count("im.message.seq", usize::try_from(seq.0).unwrap_or(usize::MAX)),
            Err(code) => span.with("im.reply.code", i64::from(code)).failed("refused"),
        }
        .record();
    }
}

#[cfg(test)]
mod tests {
    use shared::message::fixture::numbered;

    use super::*;

    fn settings(sample_ratio: f64) -> Traces {
        let otlp_endpoint = "http://127.0.0.1:1".to_owned();
        Traces { otlp_endpoint, sample_ratio, per_second_max: 3, ..Traces::default() }
    }

    fn sampled(sampler: &Sampler) -> usize {
        let id = numbered("group_1", 1, "alice", "m1").id();
        (0..100).filter(|_| sampler.sample(&id).is_some()).count()
    }

    #[test]
    fn without_an_endpoint_or_a_ratio_nothing_is_sampled() {
        assert!(Sampler::new(&Traces { sample_ratio: 1.0, ..Traces::default() }).is_none());
        assert!(Sampler::new(&settings(0.0)).is_none());
    }

    #[test]
    fn traces_begin_by_the_ratio_and_as_often_as_the_limit_allows() {
        let all = sampled(&Sampler::new(&settings(1.0)).unwrap());
        assert!((3..=4).contains(&all), "{all}");
        assert_eq!(sampled(&Sampler::new(&settings(1e-12)).unwrap()), 0);
    }
}
