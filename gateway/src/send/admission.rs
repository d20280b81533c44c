//! Admission: the checks that a message passes before it is queued for its shard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId, unix_millis};
use shared::mysql::Pool;
use shared::permission::Action;
use shared::shard::ShardCount;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::pending::{self, PendingReply};
use super::recall;
use crate::config::Limits;
use crate::identity::Identity;
use crate::membership::Memberships;
use crate::outbox::ReplyTo;
use crate::rates::Rates;
use crate::wire::refusal::Refusal;
use crate::wire::request::ChatRequest;

/// A message that passed every check and waits for its number. Holds its place in the process's limit until it is
/// answered.
#[derive(Debug)]
pub struct Admitted {
    pub(super) conversation: Conversation,
    pub(super) by: Arc<Identity>,
    pub(super) msg_id: MsgId,
    pub(super) content: String,
    pub(super) msg_type: u32,
    pub(super) send_time_ms: i64,
    pub(super) reply_when_stored: bool,
    /// The sender gets its answer by then.
    pub(super) deadline: Instant,
    pub(super) reply: PendingReply,
    pub(super) _place: OwnedSemaphorePermit,
}

/// The entrance for chat messages, shared by all connections.
#[derive(Debug)]
pub struct Sends {
    memberships: Arc<Memberships>,
    shards: ShardCount,
    queues: Vec<mpsc::Sender<Admitted>>,
    rates: Option<Rates<UserId>>,
    places: Arc<Semaphore>,
    deadline: Duration,
    pool: Pool,
    recall_within: Duration,
}

impl Sends {
    /// Returns the entrance and one queue per shard, for the [`Pipeline`](super::Pipeline)s.
    #[must_use]
    pub fn new(
        limits: &Limits,
        memberships: Arc<Memberships>,
        pool: Pool,
        shards: ShardCount,
    ) -> (Self, Vec<mpsc::Receiver<Admitted>>) {
        let (queues, receivers) =
            shards.all().map(|_| mpsc::channel(limits.shard_queue_messages_max)).unzip();
        let rates = Rates::new(limits.user_messages_per_second, limits.user_messages_burst);
        let places = Arc::new(Semaphore::new(limits.messages_in_flight_max));
        let deadline = Duration::from_millis(limits.request_deadline_ms);
        let recall_within = Duration::from_millis(limits.recall_within_ms);
        (Self { memberships, shards, queues, rates, places, deadline, pool, recall_within }, receivers)
    }

    /// Takes a message. It is answered through `reply_to`, now or within the deadline.
    ///
    /// `Some` if something has to be looked up first (an unknown membership, the message to recall): the caller takes nothing further from this connection until the
    /// future is done, so that its messages keep their order.
    #[must_use]
    pub fn submit(
        self: &Arc<Self>,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<BoxFuture<'static, ()>> {
        let msg_id = request.msg_id.unwrap_or_else(MsgId::generate);
        let reply = PendingReply::new(reply_to, conversation.clone(), msg_id.clone());
        if let Some(Err(retry_after_ms)) = self.rates.as_ref().map(|rates| rates.take(&by.user)) {
            let message = "you send faster than allowed: slow down and send this message again".to_owned();
            reply.refuse(&Refusal::RateLimited { message, retry_after_ms });
            return None;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            reply.refuse(&pending::overloaded("this gateway has as many messages in flight as it can hold"));
            return None;
        };
        let admitted = Admitted {
            by: Arc::clone(by),
            msg_id,
            content: request.content,
            msg_type: request.msg_type,
            send_time_ms: request.send_time_ms.unwrap_or_else(unix_millis),
            reply_when_stored: request.reply_when_stored,
            deadline: Instant::now() + self.deadline,
            reply,
            _place: place,
            conversation,
        };
        let recalls = request.recalls;
        let known = self.memberships.known_to_send(&admitted.conversation, &by.user);
        if let (Some(standing), None) = (&known, recalls) {
            match standing.check(Action::Send, unix_millis) {
                Ok(()) => self.queue(admitted),
                Err(denied) => admitted.reply.refuse(&denied.into()),
            }
            return None;
        }
        let this = Arc::clone(self);
        Some(
            async move {
                let checked = this.check(&admitted.conversation, &admitted.by.user, recalls);
                match tokio::time::timeout(this.deadline, checked).await {
                    Ok(Ok(())) => this.queue(admitted),
                    Ok(Err(refusal)) => admitted.reply.refuse(&refusal),
                    Err(_) => {
                        admitted.reply.refuse(&pending::overloaded("the database did not answer in time"))
                    }
                }
            }
            .boxed(),
        )
    }

    async fn check(
        &self,
        conversation: &Conversation,
        user: &UserId,
        recalls: Option<Seq>,
    ) -> Result<(), Refusal> {
        let standing = self.memberships.require(conversation, user).await?;
        if let Some(seq) = recalls {
            recall::check(&self.pool, conversation, user, &standing, seq, self.recall_within).await?;
        }
        Ok(standing.check(Action::Send, unix_millis)?)
    }

    fn queue(&self, admitted: Admitted) {
        let shard = self.shards.of(&admitted.conversation);
        let Some(queue) = self.queues.get(usize::from(shard.0)) else { return };
        if let Err(full) = queue.try_send(admitted) {
            full.into_inner().reply.refuse(&pending::overloaded("this gateway is sending as fast as it can"));
        }
    }
}
