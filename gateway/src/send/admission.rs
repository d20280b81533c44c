//! Admission of chat messages: rate, places, membership.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, Seq, UserId, unix_millis};
use shared::message::{Message, MessageKind, Reuse};
use shared::mysql::{Pool, message_ids};
use shared::permission::{Action, Denied, Permissions};
use shared::permits::Permits;
use shared::redis::sequence::Sequence;
use shared::shard::ShardLayout;
use shared::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

use super::attachments;
use super::in_flight::{PendingReply, try_again};
use super::lanes::{LaneKey, Lanes};
use super::reference::{ChangePolicy, Reference, Referring, is_decided_at_commit};
use super::routes::Routes;
use super::sampling::Sampler;
use crate::config::{Config, Limits};
use crate::features::Features;
use crate::hook::Hook;
use crate::identity::Identity;
use crate::membership::Memberships;
use crate::outbox::ReplyTo;
use crate::rates::{Rate, Rates};
use crate::wire::api_error::ApiError;
use crate::wire::chat::ChatRequest;

/// A message that waits for its sequence number.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(super) message: Message,
    /// The connection that sent it.
    pub(super) origin: ConnectionId,
    pub(super) reply_when_stored: bool,
    /// Its sender gave it an id: an earlier attempt may be stored.
    pub(super) may_be_retry: bool,
    pub(super) reply: PendingReply,
    /// Its place in the process's limit.
    pub(super) permit: OwnedSemaphorePermit,
}

/// An earlier attempt of a message that is stored.
pub(super) struct Earlier {
    pub(super) seq: Seq,
    pub(super) content_differs: bool,
}

/// Admits chat messages of all connections, and queues them for their shards.
#[derive(Debug)]
pub(crate) struct Sends {
    memberships: Arc<Memberships>,
    /// `None` before the layout of the shards is known.
    routes: RwLock<Option<Routes<Admitted>>>,
    rates: Rates<UserId>,
    places: Permits,
    pool: Pool,
    pub(super) sequence: Sequence,
    pub(super) features: Features,
    pub(super) limits: AdmissionLimits,
    changes: RwLock<ChangePolicy>,
    /// `None`: no message has a trace.
    sampler: Option<Sampler>,
    pub(super) hook: Hook,
    /// Messages that wait for the hook.
    pub(super) lanes: Mutex<Lanes<LaneKey, Admitted>>,
}

/// What [`Sends`] allows for as long as the process runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdmissionLimits {
    /// From the admission to the reply.
    deadline: Duration,
    /// From the sequence numbers of a batch to its confirm.
    pub(super) batch: Duration,
    /// Messages that wait for one pipeline.
    queue: usize,
}

/// The time for one batch, from its sequence numbers to its confirm: half of a request's time. A message that has less
/// left is refused, so that every sender gets a reply by the deadline.
pub(super) fn batch_timeout(limits: &Limits) -> Duration {
    Duration::from_millis(limits.request_deadline_ms) / 2
}

impl Sends {
    /// The admission, without a queue for any shard yet.
    #[must_use]
    pub(crate) fn new(
        config: &Config,
        memberships: Arc<Memberships>,
        pool: Pool,
        sequence: Sequence,
        hook: Hook,
    ) -> Self {
        let (limits, sampler) = (&config.limits, Sampler::new(&config.traces));
        let rates = Rates::new(rate(limits));
        let places = Permits::new(limits.messages_in_flight_max);
        let (features, changes) = (Features::of(config), RwLock::new(ChangePolicy::of(limits)));
        let limits = AdmissionLimits {
            deadline: Duration::from_millis(limits.request_deadline_ms),
            batch: batch_timeout(limits),
            queue: limits.shard_queue_messages_max,
        };
        let (routes, lanes) = (RwLock::default(), Mutex::new(Lanes::new()));
        Self {
            memberships,
            routes,
            rates,
            places,
            pool,
            sequence,
            features,
            limits,
            changes,
            sampler,
            hook,
            lanes,
        }
    }

    /// Applies what can change while the process runs. A message reads the same fields as without changes.
    pub(crate) fn set(&self, config: &Config, tasks: &Shutdown) {
        let limits = &config.limits;
        self.hook.set(&config.hook, tasks);
        self.rates.set(rate(limits));
        self.places.resize(limits.messages_in_flight_max, tasks);
        *self.changes.write() = ChangePolicy::of(limits);
    }

    /// Queues messages for the shards of `layout` from now on. `left` is what the pipelines before had left: those messages
    /// come first, in their order. Returns the queues, by shard.
    pub(super) fn route(
        &self,
        layout: ShardLayout,
        left: impl Iterator<Item = Admitted>,
    ) -> Vec<mpsc::Receiver<Admitted>> {
        let (next, receivers) = Routes::new(layout, self.limits.queue);
        // Nothing is queued meanwhile.
        let mut routes = self.routes.write();
        for admitted in left {
            send_or_refuse(&next, admitted);
        }
        *routes = Some(next);
        receivers
    }

    /// The messages between admission and confirm, and the most that there may be.
    #[must_use]
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        (self.places.in_use(), self.places.size())
    }

    /// Takes a message. Its reply is sent through `reply_to`, now or within the deadline.
    ///
    /// `Some` if something has to be looked up first (an unknown membership, the message to recall, edit or answer, the files
    /// that it carries, an earlier attempt of a message that its sender may not send now): the caller handles no further request of this connection until the future
    /// has ended, so that its messages keep their order.
    #[must_use]
    pub(crate) fn submit(
        self: &Arc<Self>,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<BoxFuture<'static, ()>> {
        let admitted = self.admit(by, conversation, request, reply_to)?;
        let reference = Reference::of(&admitted.message);
        let known = self.memberships.known_to_send(&admitted.message.conversation, &by.user);
        // A plain message refers to nothing that its sender may have cleared.
        let known = known.map(|permissions| match reference {
            Reference::None => permissions,
            _ => self.memberships.without_cleared(permissions, &admitted.message.conversation, &by.user),
        });
        match (known, reference.looked_up()) {
            (Some(permissions), None) if !admitted.message.has_files() => {
                match check(reference, &permissions) {
                    Ok(()) => {
                        self.pass(admitted);
                        None
                    }
                    Err(denied) if !admitted.may_be_retry => {
                        admitted.reply.refuse(&denied.into());
                        None
                    }
                    Err(_) => Some(Arc::clone(self).look_up(admitted, reference).boxed()),
                }
            }
            _ => Some(Arc::clone(self).look_up(admitted, reference).boxed()),
        }
    }

    /// Takes a system entry. No permission of its sender and no rate is checked. The reply comes when it is stored.
    pub(super) fn submit_system(&self, message: Message, origin: ConnectionId, reply_to: ReplyTo) {
        let deadline = Instant::now() + self.limits.deadline;
        let reply = PendingReply::new(reply_to, message.id(), deadline);
        let Some((reply, permit)) = self.take_place(reply) else { return };
        let (reply_when_stored, may_be_retry) = (true, true);
        self.queue(Admitted { message, origin, reply_when_stored, may_be_retry, reply, permit });
    }

    fn take_place(&self, reply: PendingReply) -> Option<(PendingReply, OwnedSemaphorePermit)> {
        if let Ok(permit) = Arc::clone(self.places.semaphore()).try_acquire_owned() {
            return Some((reply, permit));
        }
        reply.refuse(&try_again("this gateway has as many messages in flight as it can hold"));
        None
    }

    /// Takes a place for the message; `None` if it was refused.
    fn admit(
        &self,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<Admitted> {
        let (reply_when_stored, may_be_retry) = (request.reply_when_stored, request.msg_id.is_some());
        let message = request.into_message(conversation, by.user.clone(), unix_millis);
        let reply_when_stored = reply_when_stored || is_decided_at_commit(&message);
        let deadline = Instant::now() + self.limits.deadline;
        let id = message.id();
        let trace = self.sampler.as_ref().and_then(|sampler| sampler.sample(&id));
        let reply = PendingReply::new(reply_to, id, deadline).traced(trace);
        if let Err(refusal) = self.features.require_for(&message) {
            reply.refuse(&refusal);
            return None;
        }
        if let Err(retry_after_ms) = self.rates.take(&by.user) {
            let message = "you send faster than allowed: slow down and send this message again".to_owned();
            reply.refuse(&ApiError::RateLimited { message, retry_after_ms });
            return None;
        }
        let (reply, permit) = self.take_place(reply)?;
        Some(Admitted { message, origin: by.origin, reply_when_stored, may_be_retry, reply, permit })
    }

    /// Looks up the membership, the message to recall, edit or answer, the files, and an earlier attempt, in time for a batch.
    async fn look_up(self: Arc<Self>, mut admitted: Admitted, reference: Reference) {
        let until = admitted.reply.deadline() - self.limits.batch;
        let late = |_| {
            Err(try_again(match reference.looked_up() {
                Some(_) => {
                    "the message to recall, edit or answer is not stored yet, or the database did not answer in time"
                }
                None => "the database did not answer in time",
            }))
        };
        match timeout_at(until, self.decide(&mut admitted, reference)).await.unwrap_or_else(late) {
            Ok(None) => self.pass(admitted),
            Ok(Some(Earlier { seq, content_differs })) => admitted.reply.answer_earlier(seq, content_differs),
            Err(refusal) => admitted.reply.refuse(&refusal),
        }
    }

    /// The earlier attempt of the message, if one is stored: that is answered as it is, whatever its sender may
    /// do now. `None` if the message is to be sent.
    ///
    /// An earlier attempt that is not stored yet needs no thought: a change of permissions locks the conversation's row, so
    /// that the commit, which locks it too, refuses the attempt as well.
    async fn decide(
        &self,
        admitted: &mut Admitted,
        reference: Reference,
    ) -> Result<Option<Earlier>, ApiError> {
        // The files of an earlier attempt may be gone.
        let has_files = admitted.message.has_files();
        if (reference.is_change() || has_files)
            && let Some(stored) = self.stored(admitted).await?
        {
            return Ok(Some(stored));
        }
        match self.check(admitted, reference).await {
            Ok(()) if has_files => {
                attachments::look_up(&self.pool, &mut admitted.message).await?;
                Ok(None)
            }
            Ok(()) => Ok(None),
            Err(denied @ (ApiError::Forbidden(_) | ApiError::NotFound(_))) if !reference.is_change() => {
                self.stored(admitted).await?.map_or(Err(denied), |stored| Ok(Some(stored)))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The earlier attempt of this message, if one is stored.
    ///
    /// # Errors
    /// 409 if another message is stored under its id; 503.
    pub(super) async fn stored(&self, admitted: &Admitted) -> Result<Option<Earlier>, ApiError> {
        if !admitted.may_be_retry {
            return Ok(None);
        }
        let Message { conversation, sender, msg_id, kind, .. } = &admitted.message;
        let found = message_ids::find_id(&self.pool, conversation, sender, msg_id).await;
        let Some(stored) = found.map_err(|error| ApiError::database(&error))? else { return Ok(None) };
        let earlier = |content_differs| Ok(Some(Earlier { seq: stored.seq, content_differs }));
        match stored.reuse_by(kind) {
            Reuse::Retry => earlier(false),
            Reuse::OtherContent => earlier(true),
            // What the edit brings was replaced before it was stored.
            Reuse::OtherMessage if self.hook.is_used() && is_same_edit(kind, &stored.kind) => earlier(true),
            Reuse::OtherMessage => Err(Denied::IdReused.into()),
        }
    }

    async fn check(&self, admitted: &Admitted, reference: Reference) -> Result<(), ApiError> {
        let Message { conversation, sender: user, kind, .. } = &admitted.message;
        let permissions = self.memberships.require_to_read(conversation, user).await?;
        let referring = Referring { conversation, user, permissions: &permissions, kind, reference };
        let changes = *self.changes.read();
        changes.check(&self.pool, &self.sequence, &referring).await?;
        Ok(permissions.check(Action::Send, unix_millis)?)
    }

    pub(super) fn queue(&self, admitted: Admitted) {
        match &*self.routes.read() {
            Some(routes) => send_or_refuse(routes, admitted),
            None => admitted.reply.refuse(&try_again("the layout of the shards is not known yet")),
        }
    }
}

/// Messages of one user.
fn rate(limits: &Limits) -> Rate {
    Rate::per_second(limits.user_messages_per_second, limits.user_messages_burst)
}

/// Whether both edit the same message.
fn is_same_edit(one: &MessageKind, other: &MessageKind) -> bool {
    let target = |kind: &MessageKind| match kind {
        MessageKind::Edit { target, .. } => Some(*target),
        _ => None,
    };
    target(one).is_some_and(|seq| target(other) == Some(seq))
}

/// What can be checked without a lookup.
fn check(reference: Reference, permissions: &Permissions) -> Result<(), Denied> {
    permissions.check(Action::Send, unix_millis)?;
    reference.check_known(permissions)
}

fn send_or_refuse(routes: &Routes<Admitted>, admitted: Admitted) {
    // Each shard has a queue.
    let Some(queue) = routes.queue(&admitted.message.conversation) else { return };
    if let Err(full) = queue.try_send(admitted) {
        full.into_inner().reply.refuse(&try_again("this gateway is sending as fast as it can"));
    }
}
