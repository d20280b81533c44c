//! The cases. Each prepares its input once; only what it returns is measured.

use std::hint::black_box;
use std::sync::Arc;

use gateway::connection::login::LoggedIn;
use gateway::hub::Hub;
use gateway::identity::Identity;
use gateway::outbox::{Outbox, OutboxLimits};
use gateway::wire::message::MessageView;
use gateway::wire::name::ConversationName;
use gateway::wire::{reply, request};
use proto::v1;
use shared::conversation::Conversation;
use shared::envelope;
use shared::ids::{ConnectionId, DeviceId, Seq, UserId};
use shared::message::Numbered;
use shared::message::fixture::{numbered, text, with_kind};
use shared::shard::ShardId;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use worker::announce::events::Events;
use worker::commit::batch::Batch;
use worker::commit::pending::Pending;
use worker::commit::plan::{Situation, plan};
use worker::commit::voided_seqs::VoidedSeqs;

/// Messages in a batch, a page, a transaction.
pub const BATCH: usize = 100;
/// Connections that a push goes to.
pub const MEMBERS: usize = 50;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// In tables.
    pub name: &'static str,
    /// Prepares it.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All of them, in the order of a message's way.
pub const CASES: &[Case] = &[
    Case { name: "read a chat frame", prepare: read_frame },
    Case { name: "decide what a chat frame asks for", prepare: decide },
    Case { name: "write a chat reply", prepare: write_reply },
    Case { name: "encode a body of 100", prepare: encode_body },
    Case { name: "decode a body of 100", prepare: decode_body },
    Case { name: "plan a batch of 100", prepare: plan_batch },
    Case { name: "events of 100, encoded", prepare: encode_events },
    Case { name: "decode events of 100", prepare: decode_events },
    Case { name: "write a push of 1", prepare: || write_push(1) },
    Case { name: "write a push of 100", prepare: || write_push(BATCH) },
    Case { name: "a push into 50 outboxes and out", prepare: fan_out },
    Case { name: "write a page of 100", prepare: write_page },
];

/// The one with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

const FRAME: &str = r#"{"cmd":2,"msg_id":"01234567-89ab-cdef-0123-456789abcdef","conversation_id":"group_101","payload":{"content":"Shall we meet at the station at half past seven, or is that too late for you? The train leaves at 19:52, and I would rather not run again.","msg_type":1}}"#;
const CONTENT: &str = "Shall we meet at the station at half past seven, or is that too late for you? The train leaves at 19:52.";
const GROUP: &str = "group_101";

/// Names that are known to be good.
fn user(n: usize) -> Option<UserId> {
    UserId::parse(&format!("user-{n}")).ok()
}

fn group() -> Option<Conversation> {
    Conversation::from_key(GROUP).ok()
}

fn message(n: usize) -> Numbered {
    let (sender, msg_id) = (format!("user-{}", n % 5), format!("01234567-89ab-cdef-0123-{n:012}"));
    Numbered {
        origin: Some(ConnectionId { gateway: 3, connection: n as u64 % 5 }),
        ..with_kind(numbered(GROUP, n as u64 + 1, &sender, &msg_id), text(CONTENT))
    }
}

fn messages() -> Vec<Numbered> {
    (0..BATCH).map(message).collect()
}

fn read_frame() -> Box<dyn FnMut()> {
    Box::new(|| {
        black_box(request::parse(black_box(FRAME)).is_ok());
    })
}

fn decide() -> Box<dyn FnMut()> {
    let session = user(1).zip(DeviceId::parse("phone").ok()).map(|(user, device)| {
        let origin = ConnectionId { gateway: 1, connection: 1 };
        LoggedIn::new(Arc::new(Identity { user, device, origin }), 3)
    });
    let mut session = session;
    Box::new(move || {
        if let Some(session) = &mut session {
            black_box(session.on_text(black_box(FRAME)));
        }
    })
}

fn write_reply() -> Box<dyn FnMut()> {
    let message = message(1);
    Box::new(move || {
        black_box(reply::chat(
            &message.msg_id,
            &ConversationName::of(&message.conversation, message.sender.as_str()),
            Seq(1001),
        ));
    })
}

fn encode_body() -> Box<dyn FnMut()> {
    let messages = messages();
    Box::new(move || {
        black_box(envelope::encode_batch(ShardId(7), black_box(&messages).iter()));
    })
}

fn decode_body() -> Box<dyn FnMut()> {
    let body = envelope::encode_batch(ShardId(7), messages().iter());
    Box::new(move || {
        black_box(envelope::decode_batch(black_box(&body)).is_ok());
    })
}

fn plan_batch() -> Box<dyn FnMut()> {
    let arrivals = messages().into_iter().zip(1..);
    let pending = arrivals.map(|(message, arrival)| Pending::new(message, 1, arrival, false));
    let batch = Batch::new(pending.collect());
    let (voided, known) = (VoidedSeqs::default(), vec![None; BATCH]);
    let refusals = vec![None; BATCH];
    Box::new(move || {
        let situation = Situation {
            batch: black_box(&batch),
            heads: &[Seq::ZERO],
            known: &known,
            refusals: &refusals,
            rosters: &[],
            facts: &[],
            voided: &voided,
            overdue_since: None,
        };
        black_box(plan(&situation));
    })
}

fn encode_events() -> Box<dyn FnMut()> {
    let messages = messages();
    Box::new(move || {
        let mut events = Events::default();
        for message in messages.iter().cloned() {
            let seq = message.seq;
            events.committed(message, seq);
        }
        black_box(envelope::encode_events(&event_header(), events.into_wire().iter()));
    })
}

fn event_header() -> v1::EventBatch {
    v1::EventBatch { stream: 1, shard: Some(7), number: 1, ..v1::EventBatch::default() }
}

fn decode_events() -> Box<dyn FnMut()> {
    let mut events = Events::default();
    for message in messages() {
        let seq = message.seq;
        events.committed(message, seq);
    }
    let body = envelope::encode_events(&event_header(), events.into_wire().iter());
    Box::new(move || {
        black_box(envelope::decode_events(black_box(&body)).is_ok());
    })
}

fn views(messages: &[Numbered]) -> Vec<MessageView<'_>> {
    messages.iter().map(|numbered| MessageView::of(&numbered.message, numbered.seq)).collect()
}

/// The conversation of these messages.
fn name(messages: &[Numbered]) -> ConversationName<'_> {
    let Numbered { message, .. } = &messages[0];
    ConversationName::of(&message.conversation, message.sender.as_str())
}

fn push(messages: &[Numbered]) -> Utf8Bytes {
    let rendered: Vec<_> = views(messages).iter().map(MessageView::rendered).collect();
    let rendered: Vec<_> = rendered.iter().map(String::as_str).collect();
    reply::push(&name(messages), &rendered, Seq(messages.len() as u64))
}

fn write_push(count: usize) -> Box<dyn FnMut()> {
    let messages: Vec<_> = messages().into_iter().take(count).collect();
    Box::new(move || {
        black_box(push(black_box(&messages)));
    })
}

fn write_page() -> Box<dyn FnMut()> {
    let messages = messages();
    Box::new(move || {
        black_box(reply::pull(&name(&messages), &views(black_box(&messages)), Seq(BATCH as u64), true));
    })
}

fn fan_out() -> Box<dyn FnMut()> {
    let hub = Hub::new();
    let mut outboxes = Vec::new();
    let group = group();
    for n in 0..MEMBERS {
        let (Some(user), Ok(device), Some(group)) = (user(n), DeviceId::parse("phone"), &group) else {
            continue;
        };
        let outbox = Outbox::new(OutboxLimits { replies: 256, reply_bytes: 2 << 20, push_bytes: 256 * 1024 });
        let who = Identity { user, device, origin: ConnectionId { gateway: 1, connection: n as u64 } };
        hub.register(&who, &outbox, 8);
        hub.subscribe(&who.user, group);
        outboxes.push(outbox);
    }
    let messages = messages();
    let frame = push(&messages[..1]);
    Box::new(move || {
        if let Some(group) = &group {
            hub.each_concerned(group, |member| member.outbox.push(frame.clone(), group));
        }
        for outbox in &outboxes {
            black_box(outbox.pop());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_and_has_a_name_of_its_own() {
        for case in CASES {
            let mut run = (case.prepare)();
            run();
            run();
            assert_eq!(CASES.iter().filter(|other| other.name == case.name).count(), 1);
        }
        assert_eq!(messages().len(), BATCH);
    }
}
