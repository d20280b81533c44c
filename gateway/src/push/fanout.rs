//! From events to outboxes: one frame per conversation and batch, serialized once and shared.

use std::sync::Arc;

use ahash::AHashMap;
use proto::v1;
use shared::conversation::Conversation;
use shared::envelope::origin_from_wire;
use shared::ids::{MsgId, Seq, UserId};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::auth::revocations::Revocations;
use crate::hub::Hub;
use crate::membership::Memberships;
use crate::send::StoredReplies;
use crate::wire::message::MessageView;
use crate::wire::reply::{self, Event};

/// What an event may concern.
#[derive(Debug)]
pub struct Fanout {
    gateway: u64,
    hub: Arc<Hub>,
    memberships: Arc<Memberships>,
    stored: Arc<StoredReplies>,
    revocations: Arc<Revocations>,
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
        stored: Arc<StoredReplies>,
        revocations: Arc<Revocations>,
    ) -> Self {
        let events = |useful| metrics::counter!(shared::metrics::PUSH_EVENTS, "useful" => useful);
        let frames = metrics::counter!(shared::metrics::PUSH_FRAMES);
        Self {
            gateway,
            hub,
            memberships,
            stored,
            revocations,
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
            v1::event::Kind::MembershipChanged(changed) => self.membership_changed(&changed),
            v1::event::Kind::TokensRevoked(revoked) => self.tokens_revoked(&revoked),
            _ => false,
        };
        if useful { self.useful.increment(1) } else { self.useless.increment(1) }
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
        let mut senders: AHashMap<u64, Option<Utf8Bytes>> = AHashMap::new();
        for message in &committed.messages {
            if message.reply_when_stored {
                self.stored.committed(&conversation, &message.sender_id, &message.msg_id, Seq(message.seq));
            }
            if let Some(connection) = self.own_connection(message.origin.as_ref()) {
                senders.entry(connection).or_default();
            }
        }
        let mut all = None;
        let mut frames = 0;
        let any = self.hub.each_concerned(&conversation, |member| {
            let frame = match senders.get_mut(&member.connection) {
                None => Some(all.get_or_insert_with(|| self.frame(&conversation, committed, None)).clone()),
                Some(_) => self.others_frame(&conversation, committed, member.connection),
            };
            if let Some(frame) = frame {
                member.outbox.push(frame, &conversation);
                frames += 1;
            }
        });
        self.frames.increment(frames);
        any
    }

    fn others_frame(
        &self,
        conversation: &Conversation,
        committed: &v1::Committed,
        sender: u64,
    ) -> Option<Utf8Bytes> {
        let by_others =
            |message: &v1::StoredMessage| self.own_connection(message.origin.as_ref()) != Some(sender);
        committed.messages.iter().any(by_others).then(|| self.frame(conversation, committed, Some(sender)))
    }

    /// The push frame, without what connection `except` of this gateway sent.
    fn frame(
        &self,
        conversation: &Conversation,
        committed: &v1::Committed,
        except: Option<u64>,
    ) -> Utf8Bytes {
        let shown = committed
            .messages
            .iter()
            .filter(|message| except.is_none() || self.own_connection(message.origin.as_ref()) != except);
        let views: Vec<_> = shown.map(view).collect();
        reply::push(&conversation.wire(), &views)
    }

    fn own_connection(&self, origin: Option<&v1::Origin>) -> Option<u64> {
        let origin = origin_from_wire(*origin?);
        (origin.gateway == self.gateway).then_some(origin.connection)
    }

    fn corrected(&self, corrected: &v1::Corrected) -> bool {
        let Some(conversation) = conversation(&corrected.conversation) else { return false };
        let seq = Seq(corrected.seq);
        self.stored.committed(&conversation, &corrected.sender_id, &corrected.msg_id, seq);
        if !corrected.changed {
            return false;
        }
        self.stored.corrected(&conversation, &corrected.sender_id, &corrected.msg_id, seq);
        let Ok(msg_id) = MsgId::parse(&corrected.msg_id) else { return false };
        let frame = reply::chat(&msg_id, &conversation.wire(), seq);
        self.hub.each_of(&corrected.sender_id, |member| member.outbox.notify(frame.clone()))
    }

    fn position_moved(&self, moved: &v1::PositionMoved) -> bool {
        let Some(conversation) = conversation(&moved.conversation) else { return false };
        let frame = reply::event(Some(&conversation.wire()), Event::Ack { seq: Seq(moved.seq) });
        let mover = self.own_connection(moved.origin.as_ref());
        let mut any = false;
        self.hub.each_of(&moved.user_id, |member| {
            if Some(member.connection) != mover {
                any = true;
                member.outbox.notify(frame.clone());
            }
        });
        any
    }

    fn tokens_revoked(&self, revoked: &v1::TokensRevoked) -> bool {
        user(&revoked.user_id).is_some_and(|user| self.revocations.take(&user, revoked.not_before_ms))
    }

    fn membership_changed(&self, changed: &v1::MembershipChanged) -> bool {
        let Some(group) = conversation(&changed.conversation) else { return false };
        let users = |ids: &[String]| ids.iter().filter_map(|id| UserId::parse(id).ok()).collect::<Vec<_>>();
        let (joined, left) = (users(&changed.joined), users(&changed.left));
        self.memberships.changed(&group, joined.iter().chain(&left));
        let mut any = false;
        for user in &joined {
            self.hub.join(user, &group);
            let frame = reply::event(Some(&group.wire()), Event::Joined);
            any |= self.hub.each_of(user.as_str(), |member| member.outbox.notify(frame.clone()));
        }
        for user in &left {
            self.hub.leave(user, &group);
            let frame = reply::event(Some(&group.wire()), Event::Left);
            any |= self.hub.each_of(user.as_str(), |member| member.outbox.notify(frame.clone()));
        }
        any
    }
}

fn user(id: &str) -> Option<UserId> {
    UserId::parse(id).inspect_err(|error| tracing::warn!(%id, %error, "event about no user")).ok()
}

fn conversation(key: &str) -> Option<Conversation> {
    Conversation::from_key(key)
        .inspect_err(|error| tracing::warn!(%key, %error, "event about no conversation"))
        .ok()
}

fn view(message: &v1::StoredMessage) -> MessageView<'_> {
    MessageView {
        msg_id: &message.msg_id,
        seq: Seq(message.seq),
        sender_id: &message.sender_id,
        content: &message.content,
        msg_type: message.msg_type,
        send_time: message.send_time_ms,
    }
}
