//! One task per shard: takes what waits, numbers it, publishes it as one body, answers the senders.
//!
//! One body is in flight at a time. That costs no throughput (the next batch grows meanwhile, up to its limit), makes
//! the fate of each body certain (see [`shared::amqp::publisher`]), and keeps numbers and queue in the same order.
//!
//! Pipelines share a [`ConcurrencyLimit`]. A batch costs all processes together five times as much as a message: without
//! the limit, a medium load spreads over all shards in batches of one. With it, messages accumulate while a pipeline waits
//! for its permit, and a single busy pipeline never waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::amqp::{Broker, ConfirmingPublisher, PublishError};
use shared::backoff::Backoff;
use shared::concurrency_limit::ConcurrencyLimit;
use shared::envelope::{self, ChatMessage};
use shared::ids::Seq;
use shared::shard::ShardId;
use tokio::sync::mpsc;

use super::admission::Admitted;
use super::numbering::Numbering;
use super::pending::{PendingReply, overloaded};
use super::stored::{Final, StoredReplies};
use crate::config::Limits;

/// Numbered, encoded with its batch, and waiting for the confirm.
struct Sent {
    message: ChatMessage,
    deadline: Instant,
    reply: Option<PendingReply>,
    _place: tokio::sync::OwnedSemaphorePermit,
}

/// What a pipeline works with.
pub struct Pipeline {
    shard: ShardId,
    queue: mpsc::Receiver<Admitted>,
    numbering: Numbering,
    publisher: ConfirmingPublisher,
    broker: Arc<Broker>,
    stored: Arc<StoredReplies>,
    turns: ConcurrencyLimit,
    batch_messages_max: usize,
    batch_bytes_max: usize,
    /// For one batch, from its numbering to its confirm: half of a request's time. What has less left is refused before,
    /// so that everyone is answered by the deadline.
    patience: Duration,
    waiting: Vec<Admitted>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// The pipeline of `shard`, fed by `queue`.
    #[must_use]
    pub fn new(
        shard: ShardId,
        queue: mpsc::Receiver<Admitted>,
        numbering: Numbering,
        broker: Arc<Broker>,
        stored: Arc<StoredReplies>,
        turns: ConcurrencyLimit,
        limits: &Limits,
    ) -> Self {
        Self {
            shard,
            queue,
            numbering,
            publisher: ConfirmingPublisher::new(Arc::clone(&broker)),
            broker,
            stored,
            turns,
            batch_messages_max: limits.batch_messages_max,
            batch_bytes_max: limits.batch_bytes_max,
            patience: Duration::from_millis(limits.request_deadline_ms) / 2,
            waiting: Vec::new(),
        }
    }

    /// Runs until every [`Sends`](super::admission::Sends) is gone and its queue is empty.
    pub async fn run(mut self) {
        while self.refuse_until_ready().await && self.gather().await {
            let _turn = self.turns.acquire().await;
            self.gather_more();
            if !self.publisher.is_ready() {
                continue;
            }
            let batch = self.take_batch();
            let until = Instant::now() + self.patience;
            let sent = self.number(batch, until).await;
            self.publish(sent, until).await;
        }
    }

    /// While the broker is away, senders hear so at once, and no numbers are taken. False when nobody is left to ask.
    async fn refuse_until_ready(&mut self) -> bool {
        if self.publisher.is_ready() {
            return true;
        }
        let Self { publisher, broker, queue, waiting, .. } = self;
        let opening = async {
            let (mut backoff, mut link) = (Backoff::dependency(), broker.link());
            while publisher.ready().await.is_err() {
                // A blocked broker says when it is unblocked; one that is away must be asked again.
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_delay()) => {}
                    _ = link.changed() => {}
                }
            }
        };
        tokio::pin!(opening);
        // Opening a channel on a healthy connection takes a moment only: nobody is refused for that.
        let healthy = tokio::time::timeout(Duration::from_millis(200), &mut opening).await.is_ok();
        if healthy {
            return true;
        }
        loop {
            refuse(waiting.drain(..), "the message queue is away");
            tokio::select! {
                biased;
                () = &mut opening => return true,
                taken = queue.recv_many(waiting, 64) => if taken == 0 { return false },
            }
        }
    }

    /// Waits for a message. False when there will be none any more.
    async fn gather(&mut self) -> bool {
        if self.waiting.is_empty() {
            return self.queue.recv_many(&mut self.waiting, self.batch_messages_max).await > 0;
        }
        true
    }

    /// Takes what has gathered while this shard waited for its turn.
    ///
    /// What has waited for too long is refused and takes no place in the batch: in an overload it is most of what stands
    /// in front, and batches of the few others would take as long as full ones.
    fn gather_more(&mut self) {
        loop {
            while self.waiting.len() < self.batch_messages_max {
                let Ok(next) = self.queue.try_recv() else { break };
                self.waiting.push(next);
            }
            let until = Instant::now() + self.patience;
            let late: Vec<_> = self.waiting.extract_if(.., |message| message.deadline < until).collect();
            if late.is_empty() {
                return;
            }
            refuse(late, "the message waited for too long");
        }
    }

    /// Cuts a batch off what waits: the first message always fits.
    fn take_batch(&mut self) -> Vec<Admitted> {
        let mut bytes = 0;
        let fits = |message: &&Admitted| {
            bytes += message.content.len() + OVERHEAD_BYTES;
            bytes <= self.batch_bytes_max
        };
        let count = self.waiting.iter().take_while(fits).count().max(1).min(self.waiting.len());
        let until = Instant::now() + self.patience;
        let batch = self.waiting.drain(..count);
        let (live, late): (Vec<_>, Vec<_>) = batch.partition(|message| message.deadline >= until);
        refuse(late, "the message waited for too long");
        live
    }

    async fn number(&self, batch: Vec<Admitted>, until: Instant) -> Vec<Sent> {
        if batch.is_empty() {
            return Vec::new();
        }
        let begun = Instant::now();
        let wanted = batch.iter().map(|m| (&m.conversation, &m.by.user, &m.msg_id));
        let Ok(numbers) = tokio::time::timeout_at(until.into(), self.numbering.number(wanted)).await else {
            tracing::warn!(shard = %self.shard, messages = batch.len(), "message numbers did not come in time");
            refuse(batch, "message numbers are not available");
            return Vec::new();
        };
        metrics::histogram!(shared::metrics::GATEWAY_NUMBER_TIME).record(begun.elapsed());
        let mut sent = Vec::with_capacity(batch.len());
        let mut told = false;
        for (admitted, number) in batch.into_iter().zip(numbers) {
            match number {
                Ok(number) => sent.push(Sent::new(admitted, number.seq, number.jump, number.retry)),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(shard = %self.shard, %error, "messages got no number");
                    }
                    admitted.reply.refuse(&overloaded("message numbers are not available"));
                }
            }
        }
        sent
    }

    async fn publish(&mut self, mut sent: Vec<Sent>, until: Instant) {
        if sent.is_empty() {
            return;
        }
        // Before it goes out: the commit may be quicker than the confirm.
        for one in &mut sent {
            self.stored.begun(&one.message);
            if one.message.reply_when_stored
                && let Some(reply) = one.reply.take()
            {
                self.stored.wait_for(&one.message, reply, one.deadline);
            }
        }
        let topology = self.broker.topology();
        let (exchange, key) = (topology.messages_exchange(), topology.shard_key(self.shard));
        let body = envelope::encode_batch(self.shard, sent.iter().map(|one| &one.message));
        let begun = Instant::now();
        let patience = until.saturating_duration_since(begun);
        let published = self.publisher.publish(exchange, key, &body, None, patience).await;
        match published {
            Ok(()) => {
                metrics::histogram!(shared::metrics::GATEWAY_CONFIRM_TIME).record(begun.elapsed());
                #[allow(clippy::cast_precision_loss)] // a batch
                metrics::histogram!(shared::metrics::GATEWAY_BATCH).record(sent.len() as f64);
                metrics::counter!(shared::metrics::GATEWAY_ACCEPTED).increment(sent.len() as u64);
                for one in sent {
                    tracing::debug!(
                        conversation.id = %one.message.conversation, msg.id = %one.message.msg_id,
                        seq = %one.message.seq, shard = %self.shard, "accepted"
                    );
                    if let Some(reply) = one.reply {
                        match self.stored.end_of(&one.message) {
                            Final::Stored(seq) => reply.accept(seq),
                            Final::Refused(refusal) => reply.refuse(&refusal),
                        }
                    }
                }
            }
            Err(error) => {
                tracing::warn!(shard = %self.shard, messages = sent.len(), %error, "batch not confirmed");
                let why = match error {
                    PublishError::Nacked => "the message queue is full",
                    _ => "the message queue did not confirm",
                };
                for one in sent {
                    self.stored.give_up(&one.message, why);
                    if let Some(reply) = one.reply {
                        reply.refuse(&overloaded(why));
                    }
                }
            }
        }
    }
}

/// Ids, numbers and tags of a message beside its content, roughly.
const OVERHEAD_BYTES: usize = 128;

impl Sent {
    fn new(admitted: Admitted, seq: Seq, jump: bool, retry: bool) -> Self {
        let message = ChatMessage {
            conversation: admitted.conversation,
            seq,
            jump,
            sender: admitted.by.user.clone(),
            msg_id: admitted.msg_id,
            content: admitted.content,
            msg_type: admitted.msg_type,
            send_time_ms: admitted.send_time_ms,
            origin: Some(admitted.by.origin),
            reply_when_stored: admitted.reply_when_stored,
            retry,
        };
        Self { message, deadline: admitted.deadline, reply: Some(admitted.reply), _place: admitted._place }
    }
}

fn refuse(messages: impl IntoIterator<Item = Admitted>, why: &str) {
    for message in messages {
        message.reply.refuse(&overloaded(why));
    }
}
