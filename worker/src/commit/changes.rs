//! What change entries change: the messages that they refer to, entry by entry.
//!
//! Pure. [`Targets`] begins with what was stored before the batch, and each entry that is stored moves it on. So an entry
//! is judged by the state that the entries before it leave, also those of its own batch, and readers who apply the entries
//! in order have what [`ChangeWrites`] leaves in the database.

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{Seq, UserId};
use shared::message::{Details, FileId, FirstUser, Mentions, MessageKind, Numbered, ReactionSummary, Stored};
use shared::mysql::changes::{AddedReaction, ChangeFacts, ChangeWrites};
use shared::permission::{
    Action, ChangeTarget, Denied, EVERYONE_MEMBERS_MAX, EditTarget, RecallTarget, Roster,
};

use super::pending::Pending;

/// Different reactions to one message.
pub(crate) const REACTIONS_MAX: usize = 20;
/// Pins of one conversation.
pub(crate) const PINS_MAX: usize = 50;

/// What an entry does when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is stored.
    Stored,
    /// What it asks for is so already: it is not stored, and its sender is answered as if it were.
    Unchanged,
}

/// The messages of one conversation that entries of a batch refer to.
#[derive(Debug)]
pub(crate) struct Targets<'a> {
    facts: Option<&'a ChangeFacts>,
    messages: BTreeMap<Seq, Target>,
    pins: Option<BTreeSet<Seq>>,
    /// Standing reactions that are not stored yet.
    added: BTreeMap<ReactionKey, (Seq, i64)>,
    removed: BTreeSet<ReactionKey>,
    writes: ChangeWrites,
}

type ReactionKey = (Seq, String, UserId);

/// A message in its state after the entries so far.
#[derive(Debug)]
struct Target {
    stored: Stored,
    /// Its row differs from the stored one.
    is_changed: bool,
    /// All its reactions, as far as entries of the batch concern reactions.
    reactions: Vec<ReactionSummary>,
    changed_reactions: BTreeSet<String>,
}

impl<'a> Targets<'a> {
    /// Those with the stored `facts`; `None` if no entry of the batch refers to a message.
    pub(crate) fn new(facts: Option<&'a ChangeFacts>) -> Self {
        Self {
            facts,
            messages: BTreeMap::new(),
            pins: None,
            added: BTreeMap::new(),
            removed: BTreeSet::new(),
            writes: ChangeWrites::default(),
        }
    }

    /// Applies an entry whose turn it is. `taken`: the message that this plan stores under the number that it refers to.
    ///
    /// # Errors
    /// Why it is not stored.
    pub(crate) fn apply(
        &mut self,
        pending: &Pending,
        roster: &Roster,
        taken: Option<&Pending>,
    ) -> Result<Applied, Denied> {
        let message = &pending.message;
        self.check(message, roster, taken)?;
        match &message.kind {
            MessageKind::Recall(target) => {
                self.recall(*target);
                Ok(Applied::Stored)
            }
            MessageKind::Edit { target, .. } => self.edit(*target, pending, roster),
            MessageKind::Reaction { target, reaction, removes } => {
                let key = (*target, reaction.as_str().to_owned(), message.sender.clone());
                self.react(key, *removes, pending)
            }
            MessageKind::Pin { target, removes } => self.pin(*target, *removes, pending.seq),
            MessageKind::Text(_)
            | MessageKind::Image(_)
            | MessageKind::File(_)
            | MessageKind::App { .. }
            | MessageKind::System
            | MessageKind::Unknown { .. } => {
                self.mention(pending.seq, message, roster)?;
                self.attach(pending.seq, message);
                Ok(Applied::Stored)
            }
        }
    }

    /// Checks that the sender of a change may make it, as far as this will not be otherwise later: one that was refused, and
    /// is delivered again, is refused again.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(
        &mut self,
        message: &Numbered,
        roster: &Roster,
        taken: Option<&Pending>,
    ) -> Result<(), Denied> {
        let Some(target) = message.kind.changes() else { return Ok(()) };
        self.load(target, taken);
        let found = self.messages.get(&target).map(|found| &found.stored);
        let found = found.filter(|stored| stored.kind.changes().is_none());
        let is_own = |stored: &Stored| stored.sender == message.sender;
        // The age of a message is checked by the gateway when it accepts the change.
        let expired_after_ms = None;
        let action = match &message.kind {
            MessageKind::Recall(_) => {
                let found = found.filter(|stored| stored.kind.counts());
                Action::Recall(found.map(|stored| RecallTarget {
                    is_recall: false,
                    is_own: is_own(stored),
                    expired_after_ms,
                }))
            }
            MessageKind::Edit { content, .. } => Action::Edit(found.map(|stored| EditTarget {
                is_editable: stored.accepts(content.as_ref()),
                is_own: is_own(stored),
                is_recalled: stored.is_recalled,
                expired_after_ms,
            })),
            MessageKind::Pin { .. } => Action::Pin(found.map(change_target)),
            _ => Action::React(found.map(change_target)),
        };
        roster.relation(&message.conversation, &message.sender).check(action, || 0)
    }

    /// What the entries have changed.
    pub(crate) fn into_writes(self) -> ChangeWrites {
        let Self { messages, added, removed, mut writes, .. } = self;
        for (target, message) in messages {
            let changed = message.changed_reactions;
            let summaries = message.reactions.into_iter().filter(|one| changed.contains(&one.reaction));
            writes.summaries.extend(summaries.map(|summary| (target, summary)));
            if message.is_changed {
                writes.rewritten.push(message.stored);
            }
        }
        writes.removed = removed.into_iter().collect();
        writes.added = added
            .into_iter()
            .map(|((target, reaction, user), (seq, time_ms))| AddedReaction {
                target,
                reaction,
                user,
                seq,
                time_ms,
            })
            .collect();
        writes
    }

    /// Makes the message `target` known, if there is one.
    fn load(&mut self, target: Seq, taken: Option<&Pending>) {
        if self.messages.contains_key(&target) {
            return;
        }
        let before = self.facts.and_then(|facts| facts.targets.get(&target)).cloned();
        let stored = before.or_else(|| {
            let pending = taken?;
            Some(Stored::new(pending.message.message.clone(), pending.seq))
        });
        let Some(stored) = stored else { return };
        let reactions =
            self.facts.and_then(|facts| facts.reactions.get(&target)).cloned().unwrap_or_default();
        let message = Target { stored, is_changed: false, reactions, changed_reactions: BTreeSet::new() };
        self.messages.insert(target, message);
    }

    fn recall(&mut self, target: Seq) {
        if let Some(found) = self.messages.get_mut(&target) {
            found.is_changed = true;
            found.stored.blank();
            found.reactions.clear();
            found.changed_reactions.clear();
        }
        self.added.retain(|(of, ..), _| *of != target);
        self.removed.retain(|(of, ..)| *of != target);
        self.writes.mentions.retain(|(of, _)| *of != target);
        self.writes.pinned.retain(|(of, _)| *of != target);
        if let Some(pins) = self.pins() {
            pins.remove(&target);
        }
        self.writes.recalled.push(target);
    }

    fn edit(&mut self, target: Seq, pending: &Pending, roster: &Roster) -> Result<Applied, Denied> {
        let message = &pending.message;
        let MessageKind::Edit { content, .. } = &message.kind else { return Ok(Applied::Stored) };
        let edited = message.details.as_deref().and_then(|details| details.mentions.as_ref());
        if matches!(edited, Some(Mentions::Everyone)) {
            check_everyone(message, roster)?;
        }
        if let Some(found) = self.messages.get_mut(&target) {
            found.is_changed = true;
            found.stored.edit(content.clone(), message.details.as_deref(), message.send_time_ms);
        }
        if let Some(mentions) = edited {
            self.writes.mentions.push((target, effective(mentions, message, roster)));
        }
        self.writes.edits.push((target, pending.seq));
        Ok(Applied::Stored)
    }

    fn react(&mut self, key: ReactionKey, removes: bool, pending: &Pending) -> Result<Applied, Denied> {
        let (target, message) = (key.0, &pending.message);
        let stands = self.stands(&key);
        let Some(found) = self.messages.get_mut(&target) else { return Err(Denied::NoTarget) };
        if stands != removes {
            return Ok(Applied::Unchanged);
        }
        if removes {
            found.remove(&key.1, &key.2);
            if self.added.remove(&key).is_none() {
                self.removed.insert(key);
            }
        } else {
            found.add(&key.1, &key.2, pending.seq)?;
            self.added.insert(key, (pending.seq, message.send_time_ms));
        }
        Ok(Applied::Stored)
    }

    fn stands(&self, key: &ReactionKey) -> bool {
        let before = || self.facts.is_some_and(|facts| facts.standing.contains(key));
        self.added.contains_key(key) || (!self.removed.contains(key) && before())
    }

    fn pin(&mut self, target: Seq, removes: bool, seq: Seq) -> Result<Applied, Denied> {
        let Some(pins) = self.pins() else { return Err(Denied::NoTarget) };
        if pins.contains(&target) != removes {
            return Ok(Applied::Unchanged);
        }
        if removes {
            pins.remove(&target);
            let before = self.writes.pinned.len();
            self.writes.pinned.retain(|(of, _)| *of != target);
            if self.writes.pinned.len() == before {
                self.writes.unpinned.push(target);
            }
            return Ok(Applied::Stored);
        }
        if pins.len() >= PINS_MAX {
            return Err(Denied::PinsFull);
        }
        pins.insert(target);
        self.writes.pinned.push((target, seq));
        Ok(Applied::Stored)
    }

    /// `None` if no entry of the batch concerns pins.
    fn pins(&mut self) -> Option<&mut BTreeSet<Seq>> {
        let facts = self.facts?;
        Some(self.pins.get_or_insert_with(|| facts.pins.clone()))
    }

    fn attach(&mut self, seq: Seq, message: &Numbered) {
        let files: Vec<FileId> = message.files().cloned().collect();
        if !files.is_empty() {
            self.writes.attachments.push((seq, files));
        }
    }

    fn mention(&mut self, seq: Seq, message: &Numbered, roster: &Roster) -> Result<(), Denied> {
        let Some(mentions) = message.details.as_deref().and_then(|details| details.mentions.as_ref()) else {
            return Ok(());
        };
        if *mentions == Mentions::Everyone {
            check_everyone(message, roster)?;
        }
        let mentions = effective(mentions, message, roster);
        if !mentions.is_empty() {
            self.writes.mentions.push((seq, mentions));
        }
        Ok(())
    }
}

impl Target {
    fn add(&mut self, reaction: &str, user: &UserId, seq: Seq) -> Result<(), Denied> {
        let different = self.reactions.iter().filter(|one| one.total > 0).count();
        let at = match self.reactions.iter().position(|one| one.reaction == reaction) {
            Some(at) => at,
            None => {
                let reaction = reaction.to_owned();
                self.reactions.push(ReactionSummary { reaction, total: 0, first: Vec::new() });
                self.reactions.len() - 1
            }
        };
        let summary = &mut self.reactions[at];
        if summary.total == 0 && different >= REACTIONS_MAX {
            return Err(Denied::ReactionsFull);
        }
        // Otherwise there are others between those that are known and this one.
        if summary.first.len() == summary.total as usize {
            summary.first.push(FirstUser(user.clone(), seq));
        }
        summary.total += 1;
        self.reacted(reaction);
        Ok(())
    }

    fn remove(&mut self, reaction: &str, user: &UserId) {
        let Some(summary) = self.reactions.iter_mut().find(|one| one.reaction == reaction) else { return };
        summary.total = summary.total.saturating_sub(1);
        summary.first.retain(|first| first.0 != *user);
        self.reacted(reaction);
    }

    fn reacted(&mut self, reaction: &str) {
        self.changed_reactions.insert(reaction.to_owned());
        let has_reactions = self.reactions.iter().any(|one| one.total > 0);
        self.is_changed |= has_reactions != self.stored.has_reactions;
        self.stored.has_reactions = has_reactions;
    }
}

fn change_target(stored: &Stored) -> ChangeTarget {
    ChangeTarget { is_recalled: stored.is_recalled }
}

fn check_everyone(message: &Numbered, roster: &Roster) -> Result<(), Denied> {
    let group_is_big = match roster {
        Roster::Group(group) => group.is_large || group.members.len() > EVERYONE_MEMBERS_MAX,
        Roster::Private { .. } | Roster::NoGroup => false,
    };
    let by = roster.relation(&message.conversation, &message.sender);
    by.check(Action::MentionEveryone { group_is_big }, || 0)
}

/// The mentions that count: of members, and not of the sender itself.
fn effective(mentions: &Mentions, message: &Numbered, roster: &Roster) -> Mentions {
    let counts = |user: &&UserId| {
        let relation = roster.relation(&message.conversation, user);
        **user != message.sender && relation.check(Action::Read, || 0).is_ok()
    };
    match mentions {
        Mentions::Everyone => Mentions::Everyone,
        Mentions::Users(users) => {
            let mut users: Vec<UserId> = users.iter().filter(counts).cloned().collect();
            users.sort_unstable();
            users.dedup();
            Mentions::Users(users)
        }
    }
}

/// The users whose relation to the conversation decides about a message: its sender, and those whom it mentions.
pub(crate) fn involved(message: &Numbered) -> impl Iterator<Item = &UserId> {
    let mentions = message.details.as_deref().and_then(|details: &Details| details.mentions.as_ref());
    std::iter::once(&message.sender).chain(mentions.into_iter().flat_map(|mentions| mentions.users()))
}

/// Whether the message needs more than its sender's permission to send.
pub(crate) fn concerns(message: &Numbered) -> bool {
    message.details.is_some() || message.kind.changes().is_some()
}

#[cfg(test)]
pub(crate) mod store;
#[cfg(test)]
mod tests;
