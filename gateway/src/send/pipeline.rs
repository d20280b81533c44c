//! One task per shard: takes the waiting messages, numbers them, publishes them as one batch, and answers the senders.
//!
//! One batch is in flight at a time. That costs no throughput (the next batch grows meanwhile, up to its limit), makes
//! the fate of each batch certain (see [`shared::amqp::publisher`]), and keeps sequence numbers and queue in the same
//! order.
//!
//! Pipelines share a [`ConcurrencyLimit`](shared::concurrency_limit::ConcurrencyLimit). A batch costs all processes together five times as much as a message: without
//! the limit, a medium load spreads over all shards in batches of one. With it, messages accumulate while a pipeline waits
//! for its permit, and a single busy pipeline never waits.

use std::sync::Arc;
use std::time::Duration;

use shared::amqp::PublishError;
use shared::envelope;
use shared::message::Numbered;
use shared::permission::Denied;
use shared::shard::ShardId;
use shared::traces::{Span, SpanKind};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::admission::Admitted;
use super::in_flight::{InFlightMessage, try_again};
use super::numbering::{AssignSeqs, AssignedSeq, NumberError};
use super::pipeline_context::PipelineContext;
use super::shard_publisher::PublishBatch;

/// Ids, numbers and tags of a message beside its content, in bytes, roughly.
const OVERHEAD_BYTES: usize = 128;
/// How often it is logged that messages of a shard get no sequence numbers: while a server of Redis is lost, each batch has some.
const UNNUMBERED_LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Opening a channel on a healthy connection takes less than this: nobody is refused meanwhile.
const CHANNEL_TIMEOUT: Duration = Duration::from_millis(200);
/// The same for the first channel of a pipeline: when the number of shards changes, many are opened at once.
const FIRST_CHANNEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often messages that wait at the gate are looked at.
const GATE_INTERVAL: Duration = Duration::from_millis(100);
/// Messages that are refused at once while the broker is unavailable.
const REFUSED_AT_ONCE: usize = 64;

/// The messages of a pipeline that have no sequence number.
#[derive(Debug)]
pub(super) struct Unnumbered {
    waiting: Vec<Admitted>,
    queue: mpsc::Receiver<Admitted>,
}

impl Unnumbered {
    /// All of them, in their order.
    pub(super) fn into_messages(self) -> impl Iterator<Item = Admitted> {
        let Self { waiting, mut queue } = self;
        waiting.into_iter().chain(std::iter::from_fn(move || queue.try_recv().ok()))
    }
}

/// The pipeline of one shard.
#[derive(Debug)]
pub(crate) struct Pipeline<N, P> {
    shard: ShardId,
    queue: mpsc::Receiver<Admitted>,
    numbering: N,
    publisher: P,
    context: PipelineContext,
    waiting: Vec<Admitted>,
    /// When it was logged last that messages got no sequence numbers.
    unnumbered_logged: Option<Instant>,
    /// How long nobody is refused while a channel is opened.
    channel_timeout: Duration,
}

impl<N: AssignSeqs, P: PublishBatch> Pipeline<N, P> {
    /// The pipeline of `shard`, fed by `queue`.
    #[must_use]
    pub(crate) fn new(
        shard: ShardId,
        queue: mpsc::Receiver<Admitted>,
        numbering: N,
        publisher: P,
        context: PipelineContext,
    ) -> Self {
        Self {
            shard,
            queue,
            numbering,
            publisher,
            context,
            waiting: Vec::new(),
            unnumbered_logged: None,
            channel_timeout: FIRST_CHANNEL_TIMEOUT,
        }
    }

    /// Runs until every [`Sends`](super::admission::Sends) is gone and the queue is empty; or until `handover`: then returns
    /// the messages without a sequence number.
    pub(super) async fn run(mut self, mut handover: watch::Receiver<bool>) -> Option<Unnumbered> {
        loop {
            let limits = Arc::clone(&self.context.limits);
            let permit = async {
                if !self.refuse_until_ready().await || !self.wait_for_messages().await {
                    return None;
                }
                self.wait_at_gate().await;
                let permit = limits.batches().acquire().await;
                let turn = limits.pacer().wait(self.waiting.len() >= limits.messages_max()).await;
                Some((permit, turn))
            };
            let (_permit, turn) = tokio::select! {
                biased;
                Ok(_) = handover.wait_for(|begins| *begins) => {
                    return Some(Unnumbered { waiting: self.waiting, queue: self.queue });
                }
                permit = permit => permit?,
            };
            let before = self.waiting.len();
            self.take_more();
            let messages = self.waiting.len();
            limits.pacer().begun(turn, messages, messages.saturating_sub(before));
            if !self.publisher.is_ready() {
                continue;
            }
            let gate = Arc::clone(&self.context.gate);
            // From here to the confirm.
            let Some(_entered) = gate.enter() else { continue };
            let batch = self.cut_batch();
            let until = Instant::now() + self.context.batch_timeout;
            let numbered = self.number(batch, until).await;
            self.publish(numbered, until).await;
        }
    }

    /// While the broker is unavailable, senders are refused at once, and no sequence numbers are taken. False when there will be
    /// no more messages.
    async fn refuse_until_ready(&mut self) -> bool {
        // Only the first time: later, messages may have waited for a batch before.
        let limit = std::mem::replace(&mut self.channel_timeout, CHANNEL_TIMEOUT);
        if self.publisher.is_ready() {
            return true;
        }
        let Self { publisher, queue, waiting, .. } = self;
        let ready = publisher.until_ready();
        tokio::pin!(ready);
        if timeout(limit, &mut ready).await.is_ok() {
            return true;
        }
        loop {
            refuse(waiting.drain(..), "the message queue is unavailable");
            tokio::select! {
                biased;
                () = &mut ready => return true,
                taken = queue.recv_many(waiting, REFUSED_AT_ONCE) => if taken == 0 { return false },
            }
        }
    }

    /// False when there will be no more messages.
    async fn wait_for_messages(&mut self) -> bool {
        if self.waiting.is_empty() {
            return self.queue.recv_many(&mut self.waiting, self.context.limits.messages_max()).await > 0;
        }
        true
    }

    /// Waits until the gate is open. Those that have waited for too long are refused meanwhile; returns when there are no others.
    async fn wait_at_gate(&mut self) {
        let gate = Arc::clone(&self.context.gate);
        while !gate.opens_within(GATE_INTERVAL).await {
            self.take_more();
            if self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Takes the messages that came while this shard waited for its permit.
    ///
    /// Those that have waited for too long are refused and take no place in the batch: in an overload they are most of
    /// those at the front, and batches of the few others would take as long as full ones.
    fn take_more(&mut self) {
        loop {
            while self.waiting.len() < self.context.limits.messages_max() {
                let Ok(next) = self.queue.try_recv() else { break };
                self.waiting.push(next);
            }
            let until = Instant::now() + self.context.batch_timeout;
            let late: Vec<_> =
                self.waiting.extract_if(.., |message| message.reply.deadline() < until).collect();
            if late.is_empty() {
                return;
            }
            refuse(late, "the message waited for too long");
        }
    }

    /// Cuts a batch off the waiting messages, none of which is late. The first one always fits.
    fn cut_batch(&mut self) -> Vec<Admitted> {
        let (mut bytes, bytes_max) = (0, self.context.limits.bytes_max());
        let fits = |message: &&Admitted| {
            bytes += message.message.kind.body_bytes() + OVERHEAD_BYTES;
            bytes <= bytes_max
        };
        let count = self.waiting.iter().take_while(fits).count().max(1).min(self.waiting.len());
        metrics::counter!(shared::metrics::GATEWAY_REQUESTS, "cmd" => "chat").increment(count as u64);
        self.waiting.drain(..count).collect()
    }

    async fn number(&mut self, batch: Vec<Admitted>, until: Instant) -> Vec<InFlightMessage> {
        if batch.is_empty() {
            return Vec::new();
        }
        let start = Instant::now();
        let Ok(seqs) = timeout_at(until, self.numbering.assign(&batch)).await else {
            tracing::warn!(
                shard = %self.shard, messages = batch.len(),
                "sequence numbers did not come in time: refusing the batch"
            );
            refuse(batch, "message numbers are not available");
            return Vec::new();
        };
        metrics::histogram!(shared::metrics::GATEWAY_NUMBER_TIME).record(start.elapsed());
        let (mut numbered, count) = (Vec::with_capacity(batch.len()), batch.len());
        let is_due = self.unnumbered_logged.is_none_or(|logged| logged.elapsed() > UNNUMBERED_LOG_INTERVAL);
        let mut is_logged = !is_due;
        for (admitted, seq) in batch.into_iter().zip(seqs) {
            match seq {
                Ok(seq) => numbered.push(with_seq(admitted, seq, || (start.elapsed(), count))),
                Err(NumberError::Reused) => admitted.reply.refuse(&Denied::IdReused.into()),
                Err(error) => {
                    if !std::mem::replace(&mut is_logged, true) {
                        self.unnumbered_logged = Some(Instant::now());
                        tracing::warn!(shard = %self.shard, %error, "messages got no sequence number: refusing them");
                    }
                    admitted.reply.refuse(&try_again("message numbers are not available"));
                }
            }
        }
        numbered
    }

    async fn publish(&mut self, mut numbered: Vec<InFlightMessage>, until: Instant) {
        let Some(oldest) = numbered.first() else { return };
        let admitted = oldest.deadline().map(|deadline| deadline - self.context.reply_timeout);
        if let Some(admitted) = admitted {
            self.context.in_flight.push_timer.admitted(&oldest.message, admitted);
        }
        let spans = publish_spans(&mut numbered);
        let publishing = self.context.in_flight.publish(numbered);
        let body = envelope::encode_batch(self.shard, publishing.messages());
        let start = Instant::now();
        let limit = until.saturating_duration_since(start);
        let published = self.publisher.publish(&body, limit).await;
        for span in spans {
            self.published(span, &body, published.as_ref().err());
        }
        match published {
            Ok(()) => {
                let confirmed = Instant::now();
                self.record_accepted(publishing.messages(), confirmed - start);
                if let Some(admitted) = admitted {
                    metrics::histogram!(shared::metrics::GATEWAY_ACK_TIME).record(confirmed - admitted);
                }
                publishing.confirmed();
            }
            Err(error) => {
                let messages = publishing.messages().len();
                publishing
                    .messages()
                    .take(1)
                    .for_each(|first| self.context.in_flight.push_timer.failed(first));
                tracing::warn!(shard = %self.shard, messages, %error, "batch not confirmed: its senders try again");
                publishing.failed(match error {
                    PublishError::Nacked => "the message queue refused it",
                    PublishError::Full => "the message queue is full",
                    _ => "the message queue did not confirm",
                });
            }
        }
    }

    /// Ends the span of a message that was published, or not.
    fn published(&self, span: Span, body: &[u8], error: Option<&PublishError>) {
        let span = span
            .with("messaging.system", "rabbitmq")
            .with("messaging.operation.type", "send")
            .with("messaging.operation.name", "publish")
            .with("im.shard", i64::from(self.shard.0))
            .count("messaging.message.body.size", body.len());
        match error {
            None => span,
            Some(error) => span.failed(error.to_string()),
        }
        .record();
    }

    fn record_accepted<'m>(
        &self,
        messages: impl ExactSizeIterator<Item = &'m Numbered>,
        confirm_time: Duration,
    ) {
        metrics::histogram!(shared::metrics::GATEWAY_CONFIRM_TIME).record(confirm_time);
        #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 messages")]
        metrics::histogram!(shared::metrics::GATEWAY_BATCH).record(messages.len() as f64);
        metrics::counter!(shared::metrics::GATEWAY_ACCEPTED).increment(messages.len() as u64);
        for message in messages {
            tracing::debug!(
                conversation.id = %message.conversation, msg.id = %message.msg_id,
                seq = %message.seq, shard = %self.shard, trace_id = message.trace_id(), "message accepted"
            );
        }
    }
}

/// Begins the spans of publishing, which the bodies name. Almost always none, without an allocation.
fn publish_spans(numbered: &mut [InFlightMessage]) -> Vec<Span> {
    let traces = numbered.iter_mut().filter_map(|one| one.message.trace.as_mut());
    traces.filter_map(|trace| trace.enter("publish", SpanKind::Producer)).collect()
}

/// `numbering`: how long it took, for how many messages.
fn with_seq(
    mut admitted: Admitted,
    assigned: AssignedSeq,
    numbering: impl Fn() -> (Duration, usize),
) -> InFlightMessage {
    let AssignedSeq { seq, jump, retry, other_content } = assigned;
    if other_content {
        admitted.reply.content_differs();
    }
    let trace = admitted.reply.trace().map(|send| {
        send.retry = retry;
        let (trace, (time, messages)) = (send.trace(), numbering());
        let span = trace.child("number", SpanKind::Client).lasted(time);
        span.with("db.system.name", "redis")
            .count("db.operation.batch.size", messages)
            .with("im.seq.jump", jump)
            .record();
        Box::new(trace)
    });
    let numbered = Numbered {
        message: admitted.message,
        seq,
        jump,
        retry,
        origin: Some(admitted.origin),
        reply_when_stored: admitted.reply_when_stored,
        trace,
    };
    InFlightMessage::new(numbered, admitted.reply, admitted.permit)
}

fn refuse(messages: impl IntoIterator<Item = Admitted>, why: &str) {
    for message in messages {
        message.reply.refuse(&try_again(why));
    }
}

#[cfg(test)]
mod simulation;
