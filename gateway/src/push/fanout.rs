//! Fanout of events to outboxes: one frame per conversation and batch, serialized once and shared by its recipients.

use std::sync::Arc;

use ahash::AHashSet;
use proto::v1;
use shared::conversation::{Conversation, Kind};
use shared::ids::{MsgId, Seq, UserId};
use shared::message::origin_from_wire;
use shared::permission::{Denied, Relation};
use shared::shutdown::Shutdown;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::traces::PushTraces;
use crate::auth::revocations::Revocations;
use crate::devices::Devices;
use crate::hub::Hub;
use crate::membership::{Barriers, Memberships};
use crate::send::InFlight;
use crate::views::settings_of;
use crate::watches::Watches;
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;
use crate::wire::name::ConversationName;
use crate::wire::reply::{self, Event};
use crate::wire::request::Cmd;

/// The parts of the gateway that events concern.
#[derive(Debug)]
pub(crate) struct EventTargets {
    pub(crate) hub: Arc<Hub>,
    pub(crate) memberships: Arc<Memberships>,
    pub(crate) barriers: Arc<Barriers>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) watches: Arc<Watches>,
}

/// Hands each event to the parts and connections that it concerns.
#[derive(Debug)]
pub(crate) struct Fanout {
    gateway: u64,
    targets: EventTargets,
    tasks: Shutdown,
    useful: metrics::Counter,
    useless: metrics::Counter,
    frames: metrics::Counter,
}

impl Fanout {
    /// The fanout of the gateway with this id. `tasks` runs what has to wait.
    #[must_use]
    pub(crate) fn new(gateway: u64, targets: EventTargets, tasks: Shutdown) -> Self {
        let events = |useful| metrics::counter!(shared::metrics::PUSH_EVENTS, "useful" => useful);
        let frames = metrics::counter!(shared::metrics::PUSH_FRAMES);
        Self { gateway, targets, tasks, useful: events("true"), useless: events("false"), frames }
    }

    /// Handles an event.
    pub(crate) fn handle(&self, event: v1::event::Kind) {
        let useful = match event {
            v1::event::Kind::Committed(committed) => self.committed(&committed),
            v1::event::Kind::Corrected(corrected) => self.corrected(&corrected),
            v1::event::Kind::PositionMoved(moved) => self.position_moved(&moved),
            v1::event::Kind::MembershipChanged(changed) => self.targets.memberships.changed(&changed),
            v1::event::Kind::Refused(refused) => self.refused(&refused),
            v1::event::Kind::BlockChanged(changed) => {
                self.targets.watches.block_changed(&changed);
                self.targets.memberships.block_changed(&changed)
            }
            v1::event::Kind::Typing(typing) => self.typing(&typing),
            v1::event::Kind::Fence(barrier) => self.barrier(barrier),
            v1::event::Kind::FenceReached(reached) => self.targets.barriers.answered(&reached),
            v1::event::Kind::DeviceConnected(connected) => self.targets.devices.connected(&connected),
            v1::event::Kind::Invited(invited) => self.invited(&invited),
            v1::event::Kind::TokensRevoked(revoked) => self.tokens_revoked(&revoked),
            v1::event::Kind::ViewSettingsChanged(changed) => self.settings_changed(&changed),
            v1::event::Kind::ConversationCleared(cleared) => self.cleared(&cleared),
        };
        if useful { self.useful.increment(1) } else { self.useless.increment(1) }
    }

    /// Events of gateways may be lost, such as changes of memberships.
    pub(crate) fn changes_lost(&self) {
        self.targets.memberships.events_lost();
        self.targets.devices.events_lost();
    }

    /// Pushes may be lost: all clients have to pull.
    pub(crate) fn resync_all(&self) {
        for member in self.targets.hub.all() {
            member.outbox.resync();
        }
    }

    fn committed(&self, committed: &v1::Committed) -> bool {
        let Some(conversation) = conversation(&committed.conversation) else { return false };
        // Connections here that sent some of these messages: they get only the others.
        let mut senders = AHashSet::new();
        for message in &committed.messages {
            if message.reply_when_stored {
                self.targets.in_flight.stored(
                    &conversation,
                    &message.sender_id,
                    &message.msg_id,
                    Seq(message.seq),
                );
            }
            if let Some(connection) = self.own_connection(message.origin.as_ref()) {
                senders.insert(connection);
            }
        }
        // Rendered once, and only if a recipient is here. The frame of a sender leaves out its own messages.
        let mut messages = None;
        let mut shared = SharedFrames::default();
        let mut traces = PushTraces::begin(committed);
        let mut frames = 0;
        let any = self.targets.hub.each_concerned(&conversation, |member| {
            let messages: &mut Vec<RenderedMessage> =
                messages.get_or_insert_with(|| self.rendered(committed));
            let frame = if senders.contains(&member.connection) {
                let name = ConversationName::of(&conversation, member.user.as_str());
                frame(&name, messages.iter().filter(|message| message.sent_by != Some(member.connection)))
            } else {
                shared.get(&conversation, &member.user, |name| frame(name, messages.iter()))
            };
            if let Some(frame) = frame {
                traces.follow(&frame, &member.outbox);
                member.outbox.push(frame, &conversation);
                frames += 1;
            }
        });
        self.frames.increment(frames);
        traces.end(frames);
        if let (Some(first), Some(last)) = (committed.messages.first(), committed.messages.last()) {
            self.targets.in_flight.push_timer.pushed(&conversation, Seq(first.seq), Seq(last.seq));
        }
        any
    }

    fn rendered(&self, committed: &v1::Committed) -> Vec<RenderedMessage> {
        let rendered = |message: &v1::StoredMessage| RenderedMessage {
            seq: Seq(message.seq),
            sent_by: self.own_connection(message.origin.as_ref()),
            json: MessageView::from(message).rendered(),
        };
        committed.messages.iter().map(rendered).collect()
    }

    fn own_connection(&self, origin: Option<&v1::Origin>) -> Option<u64> {
        let origin = origin_from_wire(*origin?);
        (origin.gateway == self.gateway).then_some(origin.connection)
    }

    fn corrected(&self, corrected: &v1::Corrected) -> bool {
        let Some(conversation) = conversation(&corrected.conversation) else { return false };
        let seq = Seq(corrected.seq);
        if !corrected.changed {
            self.targets.in_flight.stored(&conversation, &corrected.sender_id, &corrected.msg_id, seq);
            return false;
        }
        self.targets.in_flight.renumbered(&conversation, &corrected.sender_id, &corrected.msg_id, seq);
        let Ok(msg_id) = MsgId::parse(&corrected.msg_id) else { return false };
        let frame = reply::chat(&msg_id, &ConversationName::of(&conversation, &corrected.sender_id), seq);
        self.targets.hub.each_of(&corrected.sender_id, |member| member.outbox.notify(frame.clone()))
    }

    /// Answers a barrier when all earlier events are applied.
    fn barrier(&self, barrier: v1::Fence) -> bool {
        let (memberships, barriers) =
            (Arc::clone(&self.targets.memberships), Arc::clone(&self.targets.barriers));
        self.tasks.spawn(async move {
            memberships.caught_up().await;
            barriers.answer(&barrier);
        });
        true
    }

    fn refused(&self, refused: &v1::Refused) -> bool {
        let Some(conversation) = conversation(&refused.conversation) else { return false };
        let refusal = ApiError::from(Denied::read_from(refused));
        let name = ConversationName::of(&conversation, &refused.sender_id);
        let frame = refusal.frame_about(Cmd::CHAT, Some(&refused.msg_id), &name);
        self.targets.in_flight.refused(&conversation, &refused.sender_id, &refused.msg_id, refusal);
        self.targets.hub.each_of(&refused.sender_id, |member| member.outbox.notify(frame.clone()))
    }

    fn position_moved(&self, moved: &v1::PositionMoved) -> bool {
        let Some(conversation) = conversation(&moved.conversation) else { return false };
        let seq = Seq(moved.seq);
        let name = ConversationName::of(&conversation, &moved.user_id);
        let own = reply::event(Some(&name), Event::Ack { seq, unread: moved.unread });
        let mut any = self.notify_others(&moved.user_id, moved.origin.as_ref(), &own);
        let peer = conversation.peer_of(&moved.user_id).filter(|peer| *peer != moved.user_id);
        if let Some(peer) = peer.filter(|peer| self.may_see_reader(&conversation, peer)) {
            let read = Event::Read { user_id: &moved.user_id, seq };
            let name = ConversationName::of(&conversation, peer);
            any |= self.notify_others(peer, None, &reply::event(Some(&name), read));
        }
        any
    }

    /// Whether `peer`, who is connected here, may be told how far the other user of a private chat has read: not if that one has
    /// blocked it, or if that is not known at the moment.
    fn may_see_reader(&self, conversation: &Conversation, peer: &str) -> bool {
        let permissions = user(peer).and_then(|peer| self.targets.memberships.known(conversation, &peer));
        permissions.is_some_and(|it| it.relation == Relation::Participant { is_blocked: false })
    }

    fn settings_changed(&self, changed: &v1::ViewSettingsChanged) -> bool {
        let Some(conversation) = conversation(&changed.conversation) else { return false };
        let name = ConversationName::of(&conversation, &changed.user_id);
        let settings = &settings_of(changed);
        let frame = reply::event(Some(&name), Event::Settings { settings });
        self.notify_others(&changed.user_id, changed.origin.as_ref(), &frame)
    }

    fn cleared(&self, cleared: &v1::ConversationCleared) -> bool {
        let Some(conversation) = conversation(&cleared.conversation) else { return false };
        self.targets.memberships.conversation_cleared(cleared);
        let name = ConversationName::of(&conversation, &cleared.user_id);
        let frame = reply::event(Some(&name), Event::Cleared { seq: Seq(cleared.seq) });
        self.notify_others(&cleared.user_id, None, &frame)
    }

    fn invited(&self, invited: &v1::Invited) -> bool {
        let Some(group) = conversation(&invited.conversation) else { return false };
        let name = ConversationName::of(&group, "");
        let frame = reply::event(Some(&name), Event::Invited { by: &invited.by });
        let mut any = false;
        for user in &invited.user_ids {
            any |= self.targets.hub.each_of(user, |member| member.outbox.notify(frame.clone()));
        }
        any
    }

    /// Notifies every connection of `user` but the one that caused the event.
    fn notify_others(&self, user: &str, origin: Option<&v1::Origin>, frame: &Utf8Bytes) -> bool {
        let cause = self.own_connection(origin);
        let mut any = false;
        self.targets.hub.each_of(user, |member| {
            if Some(member.connection) != cause {
                any = true;
                member.outbox.notify(frame.clone());
            }
        });
        any
    }

    fn typing(&self, typing: &v1::Typing) -> bool {
        let Some(conversation) = conversation(&typing.conversation) else { return false };
        let mut shared = SharedFrames::default();
        self.targets.hub.each_concerned(&conversation, |member| {
            if member.user.as_str() != typing.user_id {
                let event = Event::Typing { user_id: &typing.user_id };
                let frame =
                    shared.get(&conversation, &member.user, |name| Some(reply::event(Some(name), event)));
                frame.into_iter().for_each(|frame| member.outbox.hint(frame));
            }
        })
    }

    fn tokens_revoked(&self, revoked: &v1::TokensRevoked) -> bool {
        user(&revoked.user_id)
            .is_some_and(|user| self.targets.revocations.apply(&user, revoked.not_before_ms))
    }
}

/// A message as JSON.
struct RenderedMessage {
    seq: Seq,
    /// The connection of this gateway that sent it.
    sent_by: Option<u64>,
    json: String,
}

/// One frame for all readers of a group; one for each of the two users of a private chat, who have different peers.
#[derive(Default)]
struct SharedFrames {
    of_group: Option<Option<Utf8Bytes>>,
    of_users: Vec<(UserId, Option<Utf8Bytes>)>,
}

impl SharedFrames {
    fn get(
        &mut self,
        conversation: &Conversation,
        reader: &UserId,
        render: impl FnOnce(&ConversationName<'_>) -> Option<Utf8Bytes>,
    ) -> Option<Utf8Bytes> {
        if conversation.kind() == Kind::Group {
            let rendered = || render(&ConversationName::of_group(conversation));
            return self.of_group.get_or_insert_with(rendered).clone();
        }
        if let Some((_, frame)) = self.of_users.iter().find(|(user, _)| user == reader) {
            return frame.clone();
        }
        let frame = render(&ConversationName::of(conversation, reader.as_str()));
        self.of_users.push((reader.clone(), frame.clone()));
        frame
    }
}

/// A push with these messages; `None` if there are none.
fn frame<'m>(
    conversation: &ConversationName<'_>,
    messages: impl Iterator<Item = &'m RenderedMessage>,
) -> Option<Utf8Bytes> {
    let mut last = None;
    let messages: Vec<&str> =
        messages.inspect(|message| last = Some(message.seq)).map(|message| &*message.json).collect();
    last.map(|last| reply::push(conversation, &messages, last))
}

fn user(id: &str) -> Option<UserId> {
    UserId::parse(id)
        .inspect_err(|error| tracing::warn!(%id, %error, "an event with a malformed user id is ignored"))
        .ok()
}

fn conversation(key: &str) -> Option<Conversation> {
    Conversation::from_key(key)
        .inspect_err(
            |error| tracing::warn!(%key, %error, "an event with a malformed conversation key is ignored"),
        )
        .ok()
}
