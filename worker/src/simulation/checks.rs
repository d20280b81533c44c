//! The checks: what the outside sees of the system, compared with its promises.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::event::Kind;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::message::MessageKind;

use super::fakes::Timeline;
use super::operations::{Profile, Publish};
use super::world::{Body, Check, Mutation, Sent, World, index_of, may_send};
use crate::announce::events::Events;

/// Rounds after the last operation within which all messages must be stored.
const ROUNDS_MAX: usize = 300;

impl World {
    /// Applies events as gateways do, and checks them against the timelines.
    pub(super) fn announce(&mut self, events: Events) -> Check {
        let timelines = self.timelines.lock();
        let row = |conversation: &str, seq: u64| {
            let timeline = timelines.get(&Conversation::from_key(conversation).ok()?)?;
            timeline.rows.iter().find(|row| row.seq.0 == seq)
        };
        for event in events.into_wire() {
            match event.kind {
                Some(Kind::Committed(committed)) => {
                    if !committed.messages.is_sorted_by_key(|message| message.seq) {
                        return Err(format!("event out of order: {committed:?}"));
                    }
                    for message in committed.messages {
                        let stored = row(&committed.conversation, message.seq);
                        if stored.is_none_or(|row| row.msg_id.as_str() != message.msg_id) {
                            return Err(format!("pushed but not stored: {message:?}"));
                        }
                        self.sent[index_of(&MsgId::parse(&message.msg_id).unwrap())].announced = true;
                    }
                }
                Some(Kind::Corrected(corrected)) => {
                    let conversation = Conversation::from_key(&corrected.conversation).unwrap();
                    let (sender, msg_id) =
                        (UserId::parse(&corrected.sender_id), MsgId::parse(&corrected.msg_id));
                    let (sender, msg_id) = (sender.unwrap(), msg_id.unwrap());
                    let sent = &mut self.sent[index_of(&msg_id)];
                    let is_stored = timelines[&conversation].find(&sender, &msg_id).is_some();
                    if sent.message.kind.may_change_nothing() && !is_stored {
                        sent.unchanged = true;
                        continue;
                    }
                    let stored = row(&corrected.conversation, corrected.seq);
                    if stored.is_none_or(|row| row.msg_id.as_str() != corrected.msg_id) {
                        return Err(format!("corrected to what is not stored: {corrected:?}"));
                    }
                    if corrected.changed && self.mutation != Some(Mutation::HidesCorrections) {
                        if self.profile == Profile::Calm {
                            return Err(format!("needless correction: {corrected:?}"));
                        }
                        let sent = &mut self.sent[index_of(&MsgId::parse(&corrected.msg_id).unwrap())];
                        sent.told = Some(Seq(corrected.seq));
                        sent.corrected = true;
                    }
                }
                Some(Kind::Refused(refused)) => {
                    let conversation = Conversation::from_key(&refused.conversation).unwrap();
                    let sender = UserId::parse(&refused.sender_id).unwrap();
                    let timeline = &timelines[&conversation];
                    let msg_id = MsgId::parse(&refused.msg_id).unwrap();
                    if timeline.find(&sender, &msg_id).is_some() {
                        return Err(format!("refused and stored: {refused:?}"));
                    }
                    let is_change = self.sent[index_of(&msg_id)].message.kind.changes().is_some();
                    if may_send(timeline, &sender) && !is_change {
                        return Err(format!("refused without a reason: {refused:?}"));
                    }
                    if !timeline.fed_refusals.contains(&(sender, msg_id.clone())) {
                        return Err(format!("refused, and not in the feed: {refused:?}"));
                    }
                    let sent = &mut self.sent[index_of(&msg_id)];
                    // The refusal takes an earlier reply back.
                    (sent.refused, sent.told) = (true, None);
                }
                other => return Err(format!("no worker's event: {other:?}")),
            }
        }
        Ok(())
    }

    pub(super) fn check_stored(&self, acked: &[Body]) -> Check {
        let timelines = self.timelines.lock();
        for message in acked.iter().flat_map(|body| &body.messages) {
            let timeline = timelines.get(&message.conversation);
            let stored = timeline.and_then(|t| t.find(&message.sender, &message.msg_id)).is_some();
            let sent = &self.sent[index_of(&message.msg_id)];
            if !stored && !sent.refused && !sent.unchanged {
                return Err(format!("acknowledged but not stored: {message:?}"));
            }
        }
        Ok(())
    }

    /// Timelines only grow, at their end, by messages that are not in them yet.
    pub(super) fn check_timelines(&mut self) -> Check {
        let timelines = self.timelines.lock().clone();
        for (conversation, now) in &timelines {
            let before = self.seen.get(conversation).cloned().unwrap_or_default();
            check_growth(&before, now).map_err(|why| format!("{conversation}: {why}"))?;
        }
        self.seen = timelines;
        Ok(())
    }

    /// After all faults: each accepted message must be settled.
    pub(super) fn finish(mut self) -> Check {
        self.redis.lock().is_unavailable = false;
        self.locked.lock().clear();
        for gateway in 0..2 {
            for _ in 0..2 {
                self.publish(gateway, Publish::Confirmed);
                self.number(gateway);
            }
        }
        let mut rounds = 0;
        while !(self.queue.is_empty() && self.worker.unacked.is_empty()) {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(format!("still waiting after {rounds} rounds: {:?}", self.worker.unacked));
            }
            self.work(3, None)?;
            self.check_timelines()?;
            // Time passes only when there is nothing else to do, as for a worker that keeps up.
            if self.queue.is_empty() || self.worker.unacked.len() == self.prefetch {
                self.now += Duration::from_millis(700);
            }
        }
        self.check_replies()?;
        self.check_inboxes()?;
        self.check_changes()?;
        self.check_order()
    }

    /// Each message shows what its changes, in their order, make of it.
    fn check_changes(&self) -> Check {
        for (conversation, timeline) in self.timelines.lock().iter() {
            let (mut contents, mut reactions) = (BTreeMap::new(), BTreeMap::new());
            for row in &timeline.rows {
                match &row.kind {
                    MessageKind::Edit { target, content: Some(content) } => {
                        contents.insert(*target, content.as_str().to_owned());
                    }
                    MessageKind::Reaction { target, reaction, removes } => {
                        let key = (*target, reaction.as_str().to_owned(), row.sender.clone());
                        let before =
                            if *removes { reactions.remove(&key) } else { reactions.insert(key, row.seq) };
                        if before.is_some() != *removes {
                            return Err(format!("{conversation}: {row:?} changes nothing and is stored"));
                        }
                    }
                    kind => drop(contents.insert(row.seq, kind.content().into_owned())),
                }
            }
            if reactions != timeline.store.reactions {
                return Err(format!("{conversation}: reactions {:?}", timeline.store.reactions));
            }
            for (seq, content) in contents {
                let shown = timeline.store.rows[&seq].kind.content();
                if shown != content {
                    return Err(format!("{conversation}: {seq} shows {shown} instead of {content}"));
                }
            }
        }
        Ok(())
    }

    fn check_inboxes(&self) -> Check {
        let redis = self.redis.lock();
        for (conversation, timeline) in self.timelines.lock().iter() {
            let recorded = redis.recorded.get(conversation).copied().unwrap_or_default();
            if recorded != timeline.last {
                let last = timeline.last;
                return Err(format!("inboxes have {conversation} at {recorded}, its last row is {last}"));
            }
        }
        Ok(())
    }

    fn check_replies(&self) -> Check {
        let timelines = self.timelines.lock();
        for sent in self.sent.iter().filter(|sent| sent.accepted) {
            let Sent { message, told, .. } = sent;
            let timeline = timelines.get(&message.conversation);
            let Some(row) = timeline.and_then(|t| t.find(&message.sender, &message.msg_id)) else {
                if sent.refused || sent.unchanged {
                    continue;
                }
                return Err(format!("accepted but lost: {message:?}"));
            };
            if sent.unchanged {
                return Err(format!("{} is stored, although it changed nothing before", row.msg_id));
            }
            let is_unanswered_retry = sent.refused && told.is_none();
            if *told != Some(row.seq) && !is_unanswered_retry {
                return Err(format!("{} is stored as {}, its sender was told {told:?}", row.msg_id, row.seq));
            }
            // Corrections and retries of a dead worker may not be announced: its stream breaks off, and clients pull.
            if !(sent.announced || sent.corrected || sent.unordered) {
                return Err(format!("{} was never announced", row.msg_id));
            }
            if row.kind != message.kind {
                return Err(format!("{} has another content: {:?}", row.msg_id, row.kind));
            }
        }
        Ok(())
    }

    fn check_order(&self) -> Check {
        let mut last: BTreeMap<(&Conversation, &UserId, usize), (Seq, &MsgId)> = BTreeMap::new();
        for sent in &self.sent {
            if !sent.accepted || sent.unordered || sent.corrected || sent.refused || sent.unchanged {
                continue;
            }
            let Some(seq) = sent.told else { continue };
            let ids = (&sent.message.conversation, &sent.message.sender, sent.gateway);
            if let Some((before, id)) =
                last.insert(ids, (seq, &sent.message.msg_id)).filter(|(b, _)| *b >= seq)
            {
                return Err(format!("{id} was sent first and is {before}, {} is {seq}", sent.message.msg_id));
            }
        }
        Ok(())
    }
}

/// The change feed has every number once, in order.
fn check_feed(now: &Timeline) -> Check {
    let mut fed = Seq::ZERO;
    for (after, last) in &now.fed {
        if *after != fed || last <= after {
            return Err(format!("the feed goes on from {after} to {last}, after {fed}"));
        }
        fed = *last;
    }
    if fed != now.last {
        return Err(format!("the feed ends at {fed}, the timeline at {}", now.last));
    }
    Ok(())
}

fn check_growth(before: &Timeline, now: &Timeline) -> Check {
    let Some(grown) = now.rows.strip_prefix(&before.rows[..]) else {
        return Err(format!("stored messages changed: {before:?} is now {now:?}"));
    };
    let mut last = before.last;
    for row in grown {
        if !may_send(now, &row.sender) {
            return Err(format!("{} is stored, and {} may not send", row.msg_id, row.sender));
        }
        if row.seq <= last {
            return Err(format!(
                "{} appeared at {}, below the last sequence number {last}",
                row.msg_id, row.seq
            ));
        }
        last = row.seq;
    }
    check_feed(now)?;
    if now.last != last {
        return Err(format!("the last sequence number is {}, the last row {last}", now.last));
    }
    for (at, row) in now.rows.iter().enumerate() {
        if now.rows[..at].iter().any(|other| other.msg_id == row.msg_id && other.sender == row.sender) {
            return Err(format!("{} is stored twice", row.msg_id));
        }
    }
    Ok(())
}
