//! What the stores know about one message.

use shared::conversation::{Conversation, Kind};
use shared::envelope;
use shared::ids::{MsgId, Seq, UserId, unix_millis};
use shared::message::MessageId;
use shared::mysql::{Pool, inspection, members};
use shared::redis::inbox::Inboxes;
use shared::redis::inspection::Inspection;
use shared::shard::{ShardId, ShardLayout};
use worker::intake::dead_letter_queue::DeadLetterQueue;

use super::report::{Message, Numbered, Queue, Reader, Stored};
use super::rules::{self, Facts};
use crate::context::Context;

/// Members of a group whose inboxes are looked at.
const MEMBERS_MAX: u32 = 200;
/// Most readers that are listed.
const READERS_MAX: u32 = 100;
/// Most dead letters that are looked into.
const DEAD_LETTERS_MAX: usize = 1_000;

/// A conversation and a sender that have a message with the id.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) conversation: Conversation,
    pub(super) sender: UserId,
}

/// The stores of a trace.
#[derive(Debug)]
pub(super) struct Stores<'c> {
    context: &'c Context,
    pub(super) pool: Pool,
    pub(super) inspection: Inspection,
    inboxes: Inboxes,
    shards: ShardLayout,
}

impl<'c> Stores<'c> {
    /// Connects to MySQL and Redis.
    pub(super) async fn connect(context: &'c Context) -> anyhow::Result<Self> {
        let pool = context.mysql().await?;
        let redis = context.redis().await?;
        let shards = context.shards(&pool).await?;
        let inboxes = Inboxes::new(redis.clone(), context.config().inbox.ttl_s);
        Ok(Self { context, pool, inspection: Inspection::new(redis), inboxes, shards })
    }

    /// For how long Redis remembers an id, in seconds.
    pub(super) fn sent_ttl_s(&self) -> u32 {
        self.context.config().redis.sent_ttl_s
    }

    /// The queue of a shard; unknown if RabbitMQ cannot be reached, which the trace of a stored message does not need.
    async fn queue(&self, shard: ShardId) -> Queue {
        let asked = async {
            let rabbitmq = self.context.rabbitmq(self.shards).await?;
            let state = rabbitmq.shard_queue(shard).await;
            rabbitmq.close().await;
            anyhow::Ok(state?)
        };
        match asked.await {
            Ok(Some(state)) => {
                Queue { is_known: true, ready_bodies: state.ready_bodies, consumers: state.consumers }
            }
            Ok(None) | Err(_) => Queue::default(),
        }
    }

    /// The ids of the dead letters with this message. They are taken and returned, as by `imctl dead-letters list`.
    async fn dead_letters(&self, candidate: &Candidate, msg_id: &MsgId) -> anyhow::Result<Vec<String>> {
        let rabbitmq = self.context.rabbitmq(self.shards).await?;
        let waiting = rabbitmq.dead_letters().await;
        rabbitmq.close().await;
        if waiting?.unwrap_or(0) == 0 {
            return Ok(Vec::new());
        }
        let topology = self.context.topology(self.shards);
        let queue = DeadLetterQueue::open(&self.context.config().amqp, topology).await?;
        let letters = queue.take(DEAD_LETTERS_MAX).await?;
        let has_it = |body: &[u8]| {
            envelope::decode_batch(body).is_ok_and(|batch| {
                batch.messages.iter().any(|numbered| {
                    let message = &numbered.message;
                    message.conversation == candidate.conversation
                        && message.sender == candidate.sender
                        && message.msg_id == *msg_id
                })
            })
        };
        let ids =
            letters.iter().filter(|letter| has_it(&letter.body)).map(|letter| letter.id.clone()).collect();
        queue.close(&letters).await?;
        Ok(ids)
    }
}

/// Traces one message.
pub(super) async fn trace(
    stores: &Stores<'_>,
    candidate: Candidate,
    msg_id: &MsgId,
) -> anyhow::Result<Message> {
    let Candidate { conversation, sender } = &candidate;
    let numbered = numbered(stores, &candidate, msg_id).await?;
    // Before the row: a message that is committed in between is found stored, and not taken for lost.
    let row = inspection::conversation(&stores.pool, conversation).await?;
    let last_seq = row.map_or(0, |row| row.last_seq.0);
    let stored = stored(stores, &candidate, msg_id).await?;
    let shard = stores.shards.of(conversation);
    let queue = stores.queue(shard).await;
    let dead_letters = match &stored {
        None if queue.is_known => stores.dead_letters(&candidate, msg_id).await?,
        _ => Vec::new(),
    };
    let facts = Facts {
        numbered: numbered.as_ref(),
        stored: stored.as_ref(),
        last_seq,
        queue,
        dead_letters: dead_letters.len(),
    };
    let (state, conclusion) = rules::conclude(&facts);
    let (is_announced, read_by) = match &stored {
        None => (None, Vec::new()),
        Some(stored) => {
            let seq = Seq(stored.seq);
            (is_announced(stores, conversation, seq).await?, readers(stores, &candidate, seq).await?)
        }
    };
    let id = MessageId { conversation: conversation.clone(), sender: sender.clone(), msg_id: msg_id.clone() };
    Ok(Message {
        trace_id: id.trace_id().to_string(),
        conversation: conversation.key().to_owned(),
        sender: sender.as_str().to_owned(),
        shard: shard.number(),
        state,
        conclusion,
        is_renumbered: rules::is_renumbered(numbered.as_ref(), stored.as_ref()),
        numbered,
        stored,
        last_seq,
        queue,
        dead_letters,
        is_announced,
        read_by,
        not_known: rules::not_known(state, is_announced),
    })
}

async fn numbered(
    stores: &Stores<'_>,
    Candidate { conversation, sender }: &Candidate,
    msg_id: &MsgId,
) -> anyhow::Result<Option<Numbered>> {
    let remembered = stores.inspection.remembered(conversation, sender, msg_id).await?;
    Ok(remembered.map(|id| {
        let since_s = u64::from(stores.sent_ttl_s()).saturating_sub(id.remaining_s);
        Numbered {
            seq: id.seq.0,
            fingerprint: id.fingerprint.map(|fingerprint| fingerprint.to_string()),
            at_ms: unix_millis() - i64::try_from(since_s * 1_000).unwrap_or(0),
            remaining_s: id.remaining_s,
        }
    }))
}

async fn stored(
    stores: &Stores<'_>,
    Candidate { conversation, sender }: &Candidate,
    msg_id: &MsgId,
) -> anyhow::Result<Option<Stored>> {
    let found = inspection::messages_with_id(&stores.pool, conversation.key(), msg_id.as_str()).await?;
    let own = found.into_iter().find(|message| message.sender_id == sender.as_str());
    Ok(own.map(|message| Stored {
        seq: message.seq.0,
        msg_type: message.msg_type,
        sent_at_ms: message.send_time_ms,
        stored_at_ms: message.stored_at_ms,
        is_recalled: message.is_recalled,
    }))
}

/// Inboxes are recorded after the gateways were told.
async fn is_announced(
    stores: &Stores<'_>,
    conversation: &Conversation,
    seq: Seq,
) -> anyhow::Result<Option<bool>> {
    let users = match conversation.kind() {
        Kind::Private(a, b) => [a, b].map(UserId::parse).into_iter().flatten().collect(),
        Kind::Group => {
            let listed = members::list(&stores.pool, conversation, "", MEMBERS_MAX).await?;
            listed.iter().filter_map(|member| UserId::parse(&member.user_id).ok()).collect::<Vec<_>>()
        }
    };
    let mut known = stores.inspection.inbox_seqs(conversation, &users).await?;
    let group_head = stores.inboxes.group_heads(std::slice::from_ref(conversation)).await?;
    known.extend(group_head.into_iter().map(|head| head.map(|(_, seq)| seq)));
    Ok(known.into_iter().flatten().any(|last_seq| last_seq >= seq).then_some(true))
}

async fn readers(stores: &Stores<'_>, candidate: &Candidate, seq: Seq) -> anyhow::Result<Vec<Reader>> {
    let Candidate { conversation, sender } = candidate;
    let found = match conversation.kind() {
        Kind::Private(a, b) => {
            let users = [a, b].map(UserId::parse).into_iter().flatten().collect::<Vec<_>>();
            inspection::readers_among(&stores.pool, conversation, &users, seq).await?
        }
        Kind::Group => inspection::group_readers(&stores.pool, conversation, seq, READERS_MAX).await?,
    };
    let others = found.into_iter().filter(|(user, _)| user != sender.as_str());
    let mut readers: Vec<Reader> =
        others.map(|(user_id, position)| Reader { user_id, position: position.0 }).collect();
    readers.dedup();
    Ok(readers)
}
