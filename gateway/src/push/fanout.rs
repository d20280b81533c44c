//! From events to outboxes: one frame per conversation and batch, serialized once and shared.

use std::sync::Arc;

use ahash::AHashSet;
use proto::v1;
use serde_json::value::RawValue;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::message::origin_from_wire;
use shared::permission::Denied;
use shared::shutdown::Shutdown;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::auth::revocations::Revocations;
use crate::hub::Hub;
use crate::membership::{Fences, Memberships};
use crate::send::InFlight;
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;
use crate::wire::reply::{self, Event};
use crate::wire::request::Cmd;

/// What an event may concern.
#[derive(Debug)]
pub struct Fanout {
    gateway: u64,
    hub: Arc<Hub>,
    memberships: Arc<Memberships>,
    fences: Arc<Fences>,
    in_flight: Arc<InFlight>,
    revocations: Arc<Revocations>,
    tasks: Shutdown,
    useful: metrics::Counter,
    useless: metrics::Counter,
    frames: metrics::Counter,
}

impl Fanout {
    /// The fanout of the gateway with this number.
    #[must_use]
    pub fn new(
        gateway: u64,
        hub: Arc<Hub>,
        memberships: Arc<Memberships>,
        fences: Arc<Fences>,
        in_flight: Arc<InFlight>,
        revocations: Arc<Revocations>,
        tasks: Shutdown,
    ) -> Self {
        let events = |useful| metrics::counter!(shared::metrics::PUSH_EVENTS, "useful" => useful);
        let frames = metrics::counter!(shared::metrics::PUSH_FRAMES);
        Self {
            gateway,
            hub,
            memberships,
            fences,
            in_flight,
            revocations,
            tasks,
            useful: events("true"),
            useless: events("false"),
            frames,
        }
    }

    /// Tells everyone here whom `event` concerns.
    pub fn tell(&self, event: v1::event::Kind) {
        let useful = match event {
            v1::event::Kind::Committed(committed) => self.committed(&committed),
            v1::event::Kind::Corrected(corrected) => self.corrected(&corrected),
            v1::event::Kind::PositionMoved(moved) => self.position_moved(&moved),
            v1::event::Kind::MembershipChanged(changed) => self.memberships.changed(&changed),
            v1::event::Kind::Refused(refused) => self.refused(&refused),
            v1::event::Kind::BlockChanged(changed) => self.memberships.block_changed(&changed),
            v1::event::Kind::Typing(typing) => self.typing(&typing),
            v1::event::Kind::Fence(fence) => self.fence(fence),
            v1::event::Kind::FenceReached(reached) => self.fences.reached(&reached),
            v1::event::Kind::TokensRevoked(revoked) => self.tokens_revoked(&revoked),
        };
        if useful { self.useful.increment(1) } else { self.useless.increment(1) }
    }

    /// Events of gateways may have been lost, such as changes of memberships.
    pub fn changes_lost(&self) {
        self.memberships.events_lost();
    }

    /// Pushes may have been lost for anyone.
    pub fn resync_all(&self) {
        for member in self.hub.all() {
            member.outbox.resync();
        }
    }

    fn committed(&self, committed: &v1::Committed) -> bool {
        let Some(conversation) = conversation(&committed.conversation) else { return false };
        // Connections here that sent some of these messages: they get the others only.
        let mut senders = AHashSet::new();
        for message in &committed.messages {
            if message.reply_when_stored {
                self.in_flight.stored(&conversation, &message.sender_id, &message.msg_id, Seq(message.seq));
            }
            if let Some(connection) = self.own_connection(message.origin.as_ref()) {
                senders.insert(connection);
            }
        }
        // Rendered once, and only if someone is here; what a sender gets leaves some of them out.
        let mut messages = None;
        let mut all = None;
        let mut frames = 0;
        let any = self.hub.each_concerned(&conversation, |member| {
            let messages: &mut Vec<Shown> = messages.get_or_insert_with(|| self.shown(committed));
            let frame = if senders.contains(&member.connection) {
                frame(&conversation, messages.iter().filter(|shown| shown.by != Some(member.connection)))
            } else {
                all.get_or_insert_with(|| frame(&conversation, messages.iter())).clone()
            };
            if let Some(frame) = frame {
                member.outbox.push(frame, &conversation);
                frames += 1;
            }
        });
        self.frames.increment(frames);
        any
    }

    fn shown(&self, committed: &v1::Committed) -> Vec<Shown> {
        let shown = |message: &v1::StoredMessage| Shown {
            seq: Seq(message.seq),
            by: self.own_connection(message.origin.as_ref()),
            json: MessageView::from(message).rendered(),
        };
        committed.messages.iter().map(shown).collect()
    }

    fn own_connection(&self, origin: Option<&v1::Origin>) -> Option<u64> {
        let origin = origin_from_wire(*origin?);
        (origin.gateway == self.gateway).then_some(origin.connection)
    }

    fn corrected(&self, corrected: &v1::Corrected) -> bool {
        let Some(conversation) = conversation(&corrected.conversation) else { return false };
        let seq = Seq(corrected.seq);
        if !corrected.changed {
            self.in_flight.stored(&conversation, &corrected.sender_id, &corrected.msg_id, seq);
            return false;
        }
        self.in_flight.renumbered(&conversation, &corrected.sender_id, &corrected.msg_id, seq);
        let Ok(msg_id) = MsgId::parse(&corrected.msg_id) else { return false };
        let frame = reply::chat(&msg_id, &conversation.wire(), seq);
        self.hub.each_of(&corrected.sender_id, |member| member.outbox.notify(frame.clone()))
    }

    /// Answered when all that was heard of before is known.
    fn fence(&self, fence: v1::Fence) -> bool {
        let (memberships, fences) = (Arc::clone(&self.memberships), Arc::clone(&self.fences));
        self.tasks.spawn(async move {
            memberships.caught_up().await;
            fences.passed(&fence);
        });
        true
    }

    fn refused(&self, refused: &v1::Refused) -> bool {
        let Some(conversation) = conversation(&refused.conversation) else { return false };
        let refusal = ApiError::from(Denied::read_from(refused));
        let frame = refusal.frame(Cmd::CHAT, Some(&refused.msg_id), Some(&conversation.wire()));
        self.in_flight.refused(&conversation, &refused.sender_id, &refused.msg_id, refusal);
        self.hub.each_of(&refused.sender_id, |member| member.outbox.notify(frame.clone()))
    }

    fn position_moved(&self, moved: &v1::PositionMoved) -> bool {
        let Some(conversation) = conversation(&moved.conversation) else { return false };
        let seq = Seq(moved.seq);
        let own = reply::event(Some(&conversation.wire()), Event::Ack { seq, unread: moved.unread });
        let mut any = self.tell_others(&moved.user_id, moved.origin.as_ref(), &own);
        let peer = conversation.peer_of(&moved.user_id).filter(|peer| *peer != moved.user_id);
        if let Some(peer) = peer {
            let read = Event::Read { user_id: &moved.user_id, seq };
            any |= self.tell_others(peer, None, &reply::event(Some(&conversation.wire()), read));
        }
        any
    }

    /// Every connection of `user` but the one that caused it.
    fn tell_others(&self, user: &str, origin: Option<&v1::Origin>, frame: &Utf8Bytes) -> bool {
        let cause = self.own_connection(origin);
        let mut any = false;
        self.hub.each_of(user, |member| {
            if Some(member.connection) != cause {
                any = true;
                member.outbox.notify(frame.clone());
            }
        });
        any
    }

    fn typing(&self, typing: &v1::Typing) -> bool {
        let Some(conversation) = conversation(&typing.conversation) else { return false };
        let mut frame = None;
        self.hub.each_concerned(&conversation, |member| {
            if member.user.as_str() != typing.user_id {
                let event =
                    || reply::event(Some(&conversation.wire()), Event::Typing { user_id: &typing.user_id });
                member.outbox.hint(frame.get_or_insert_with(event).clone());
            }
        })
    }

    fn tokens_revoked(&self, revoked: &v1::TokensRevoked) -> bool {
        user(&revoked.user_id).is_some_and(|user| self.revocations.apply(&user, revoked.not_before_ms))
    }
}

/// A message as clients see it.
struct Shown {
    seq: Seq,
    /// The connection here that sent it.
    by: Option<u64>,
    json: Box<RawValue>,
}

/// One push of these messages, if there are any.
fn frame<'m>(conversation: &Conversation, messages: impl Iterator<Item = &'m Shown>) -> Option<Utf8Bytes> {
    let mut last = None;
    let messages: Vec<&RawValue> =
        messages.inspect(|shown| last = Some(shown.seq)).map(|shown| &*shown.json).collect();
    last.map(|last| reply::push(&conversation.wire(), &messages, last))
}

fn user(id: &str) -> Option<UserId> {
    UserId::parse(id).inspect_err(|error| tracing::warn!(%id, %error, "event about no user")).ok()
}

fn conversation(key: &str) -> Option<Conversation> {
    Conversation::from_key(key)
        .inspect_err(|error| tracing::warn!(%key, %error, "event about no conversation"))
        .ok()
}
