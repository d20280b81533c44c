//! Admission of chat messages: rate, places, membership.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, Seq, UserId, unix_millis};
use shared::message::Message;
use shared::mysql::Pool;
use shared::permission::Action;
use shared::shard::ShardCount;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::in_flight::{PendingReply, try_again};
use super::recall::{Recall, RecallPolicy};
use crate::config::Limits;
use crate::identity::Identity;
use crate::membership::Memberships;
use crate::outbox::ReplyTo;
use crate::rates::Rates;
use crate::wire::api_error::ApiError;
use crate::wire::message::ChatRequest;

/// A message that waits for its sequence number.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(super) message: Message,
    /// The connection that sent it.
    pub(super) origin: ConnectionId,
    pub(super) reply_when_stored: bool,
    pub(super) reply: PendingReply,
    /// Its place in the process's limit.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Admits chat messages of all connections, and queues them for their shards.
#[derive(Debug)]
pub(crate) struct Sends {
    memberships: Arc<Memberships>,
    shards: ShardCount,
    queues: Vec<mpsc::Sender<Admitted>>,
    rates: Option<Rates<UserId>>,
    places: Arc<Semaphore>,
    pool: Pool,
    limits: AdmissionLimits,
}

/// What [`Sends`] allows.
#[derive(Debug, Clone, Copy)]
struct AdmissionLimits {
    /// From the admission to the reply.
    deadline: Duration,
    /// From the sequence numbers of a batch to its confirm.
    batch: Duration,
    recall: RecallPolicy,
}

/// The time for one batch, from its sequence numbers to its confirm: half of a request's time. A message that has less
/// left is refused, so that every sender gets a reply by the deadline.
pub(super) fn batch_timeout(limits: &Limits) -> Duration {
    Duration::from_millis(limits.request_deadline_ms) / 2
}

impl Sends {
    /// Returns the admission and one queue per shard, for the pipelines.
    #[must_use]
    pub(crate) fn new(
        limits: &Limits,
        memberships: Arc<Memberships>,
        pool: Pool,
        shards: ShardCount,
    ) -> (Self, Vec<mpsc::Receiver<Admitted>>) {
        let (queues, receivers) =
            shards.all().map(|_| mpsc::channel(limits.shard_queue_messages_max)).unzip();
        let rates = Rates::new(limits.user_messages_per_second, limits.user_messages_burst);
        let places = Arc::new(Semaphore::new(limits.messages_in_flight_max));
        let limits = AdmissionLimits {
            deadline: Duration::from_millis(limits.request_deadline_ms),
            batch: batch_timeout(limits),
            recall: RecallPolicy { within: Duration::from_millis(limits.recall_within_ms) },
        };
        (Self { memberships, shards, queues, rates, places, pool, limits }, receivers)
    }

    /// Takes a message. Its reply is sent through `reply_to`, now or within the deadline.
    ///
    /// `Some` if something has to be looked up first (an unknown membership, the message to recall): the caller handles no
    /// further request of this connection until the future has ended, so that its messages keep their order.
    #[must_use]
    pub(crate) fn submit(
        self: &Arc<Self>,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<BoxFuture<'static, ()>> {
        let admitted = self.admit(by, conversation, request, reply_to)?;
        let recalls = admitted.message.kind.recalls();
        let known = self.memberships.known_to_send(&admitted.message.conversation, &by.user);
        match (known, recalls) {
            (Some(permissions), None) => {
                let allowed = permissions.check(Action::Send, unix_millis);
                self.queue_if(allowed.map_err(ApiError::from), admitted);
                None
            }
            _ => Some(Arc::clone(self).look_up(admitted, recalls).boxed()),
        }
    }

    /// Takes a place for the message; `None` if it was refused.
    fn admit(
        &self,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<Admitted> {
        let reply_when_stored = request.reply_when_stored;
        let message = request.into_message(conversation, by.user.clone(), unix_millis);
        let deadline = Instant::now() + self.limits.deadline;
        let (conversation, msg_id) = (message.conversation.clone(), message.msg_id.clone());
        let reply = PendingReply::new(reply_to, conversation, msg_id, deadline);
        if let Some(Err(retry_after_ms)) = self.rates.as_ref().map(|rates| rates.take(&by.user)) {
            let message = "you send faster than allowed: slow down and send this message again".to_owned();
            reply.refuse(&ApiError::RateLimited { message, retry_after_ms });
            return None;
        }
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            reply.refuse(&try_again("this gateway has as many messages in flight as it can hold"));
            return None;
        };
        Some(Admitted { message, origin: by.origin, reply_when_stored, reply, permit })
    }

    /// Looks up the membership, and the message to recall, in time for a batch.
    async fn look_up(self: Arc<Self>, admitted: Admitted, recalls: Option<Seq>) {
        let until = admitted.reply.deadline() - self.limits.batch;
        let checked = timeout_at(until, self.check(&admitted, recalls)).await;
        let late = |_| Err(try_again("the database did not answer in time"));
        self.queue_if(checked.unwrap_or_else(late), admitted);
    }

    async fn check(&self, admitted: &Admitted, recalls: Option<Seq>) -> Result<(), ApiError> {
        let (conversation, user) = (&admitted.message.conversation, &admitted.message.sender);
        let permissions = self.memberships.require(conversation, user).await?;
        if let Some(seq) = recalls {
            let recall = Recall { conversation, user, permissions: &permissions, seq };
            self.limits.recall.check(&self.pool, &recall).await?;
        }
        Ok(permissions.check(Action::Send, unix_millis)?)
    }

    fn queue_if(&self, allowed: Result<(), ApiError>, admitted: Admitted) {
        if let Err(refusal) = allowed {
            return admitted.reply.refuse(&refusal);
        }
        let shard = self.shards.of(&admitted.message.conversation);
        let Some(queue) = self.queues.get(usize::from(shard.0)) else { return };
        if let Err(full) = queue.try_send(admitted) {
            full.into_inner().reply.refuse(&try_again("this gateway is sending as fast as it can"));
        }
    }
}
