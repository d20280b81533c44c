//! A store of changes in memory, for tests: what the statements of `shared::mysql::changes` do.

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{Seq, UserId};
use shared::message::{FirstUser, Mentions, Numbered, ReactionSummary, SHOWN_USERS_MAX, Stored};
use shared::mysql::changes::{ChangeFacts, ChangeQuery, ChangeWrites};

/// The messages of one conversation with what belongs to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) rows: BTreeMap<Seq, Stored>,
    /// Message, reaction and user, with the entry that added it.
    pub(crate) reactions: BTreeMap<(Seq, String, UserId), Seq>,
    summaries: BTreeMap<(Seq, String), ReactionSummary>,
    pub(crate) pins: BTreeMap<Seq, Seq>,
    edits: BTreeSet<(Seq, Seq)>,
    pub(crate) mentions: BTreeMap<Seq, Mentions>,
}

impl Store {
    pub(crate) fn insert(&mut self, seq: Seq, message: &Numbered) {
        self.rows.insert(seq, Stored::new(message.message.clone(), seq));
    }

    pub(crate) fn read(&self, query: &ChangeQuery<'_>) -> ChangeFacts {
        let mut facts = ChangeFacts::default();
        let rows = query.targets.iter().filter_map(|seq| self.rows.get(seq));
        facts.targets.extend(rows.map(|row| (row.seq, row.clone())));
        for one in &query.reactions {
            let key = (one.target, one.reaction.to_owned(), one.user.clone());
            if self.reactions.contains_key(&key) {
                facts.standing.insert(key);
            }
        }
        let asked: BTreeSet<Seq> = query.reactions.iter().map(|one| one.target).collect();
        for ((target, reaction), summary) in self.summaries.iter().filter(|((of, _), _)| asked.contains(of)) {
            let mut summary = summary.clone();
            let removals = query.reactions.iter().filter(|one| one.removes && one.target == *target);
            let removals = removals.filter(|one| one.reaction == reaction).count();
            if removals > 0 {
                summary.first = self.first_users(*target, reaction, SHOWN_USERS_MAX + removals);
            }
            facts.reactions.entry(*target).or_default().push(summary);
        }
        if query.pins {
            facts.pins = self.pins.keys().copied().collect();
        }
        facts
    }

    fn first_users(&self, target: Seq, reaction: &str, limit: usize) -> Vec<FirstUser> {
        let all = self.reactions.iter().filter(|((of, one, _), _)| *of == target && one == reaction);
        let mut all: Vec<FirstUser> = all.map(|((.., user), seq)| FirstUser(user.clone(), *seq)).collect();
        all.sort_by_key(|first| first.1);
        all.truncate(limit);
        all
    }

    /// In the order of the statements of `shared::mysql::changes::write`.
    pub(crate) fn write(&mut self, writes: &ChangeWrites) {
        for row in &writes.rewritten {
            self.rows.insert(row.seq, row.clone());
        }
        for key in &writes.removed {
            assert!(self.reactions.remove(key).is_some(), "{key:?} was not there");
        }
        for one in &writes.added {
            let key = (one.target, one.reaction.clone(), one.user.clone());
            assert_eq!(self.reactions.insert(key, one.seq), None, "a duplicate key");
        }
        for (target, summary) in &writes.summaries {
            let key = (*target, summary.reaction.clone());
            if summary.total == 0 {
                self.summaries.remove(&key);
                continue;
            }
            let mut summary = summary.clone();
            summary.first.truncate(SHOWN_USERS_MAX);
            self.summaries.insert(key, summary);
        }
        for target in &writes.unpinned {
            assert!(self.pins.remove(target).is_some(), "{target} was not pinned");
        }
        for (target, pin) in &writes.pinned {
            assert_eq!(self.pins.insert(*target, *pin), None, "a duplicate key");
        }
        self.edits.extend(&writes.edits);
        self.mentions.extend(writes.mentions.iter().cloned());
        for target in &writes.recalled {
            self.recall(*target);
        }
    }

    fn recall(&mut self, target: Seq) {
        self.reactions.retain(|(of, ..), _| *of != target);
        self.summaries.retain(|(of, _), _| *of != target);
        self.pins.remove(&target);
        self.mentions.remove(&target);
        for (_, edit) in self.edits.iter().filter(|(of, _)| *of == target) {
            if let Some(row) = self.rows.get_mut(edit) {
                row.blank();
            }
        }
    }

    /// What a pull shows of the message.
    pub(crate) fn shown(&self, seq: Seq) -> Option<Stored> {
        let mut row = self.rows.get(&seq)?.clone();
        let summaries = self.summaries.iter().filter(|((of, _), _)| *of == seq && row.has_reactions);
        let mut reactions: Vec<ReactionSummary> = summaries.map(|(_, summary)| summary.clone()).collect();
        reactions.sort_by_key(|summary| summary.first.first().map(|first| first.1));
        row.reactions = reactions;
        Some(row)
    }
}
