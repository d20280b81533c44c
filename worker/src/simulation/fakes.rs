//! Fake stores in memory. Each call is one step, at which a fault can happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::feed::FeedShards;
use shared::ids::{MsgId, Seq, UserId};
use shared::message::{FileId, Message, MessageKind, Numbered};
use shared::mysql::changes::{ChangeFacts, ChangeQuery, ChangeWrites};
use shared::mysql::conversations::Head;
use shared::mysql::message_ids::StoredId;
use shared::mysql::rosters::RosterQuery;
use shared::permission::{GroupRoster, Roster};

use super::operations::Fault;
use crate::commit::changes::store::Store;
use crate::commit::ledger::{Attempt, Ledger, LedgerError, LedgerTx, Outcome};
use crate::commit::renumber::Sequencer;

/// The error of a fake store when a fault happens, or while it is unavailable.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke")]
pub(super) struct Broken;

/// The steps and faults of one worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    state: Arc<Mutex<FaultState>>,
}

#[derive(Debug, Default)]
struct FaultState {
    next: Option<Fault>,
    dead: bool,
}

impl Faults {
    pub(super) fn arm(&self, fault: Option<Fault>) {
        self.state.lock().next = fault;
    }

    /// Whether the worker is dead: its further steps have no effect.
    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Runs `effect` as one step, unless a fault happens at it.
    pub(super) fn step<T>(&self, effect: impl FnOnce() -> T) -> Result<T, Broken> {
        let fault = {
            let mut state = self.state.lock();
            if state.dead {
                return Err(Broken);
            }
            match &mut state.next {
                Some(fault) if fault.after_steps == 0 => {
                    let fault = *fault;
                    state.next = None;
                    state.dead = fault.fatal;
                    Some(fault)
                }
                Some(fault) => {
                    fault.after_steps -= 1;
                    None
                }
                None => None,
            }
        };
        match fault {
            None => Ok(effect()),
            Some(fault) => {
                if fault.takes_effect {
                    effect();
                }
                Err(Broken)
            }
        }
    }
}

/// One stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: Seq,
    pub(super) sender: UserId,
    pub(super) msg_id: MsgId,
    /// As it was sent.
    pub(super) kind: MessageKind,
}

impl Row {
    fn of(seq: Seq, message: &Numbered) -> Self {
        let Message { sender, msg_id, kind, .. } = message.message.clone();
        Self { seq, sender, msg_id, kind }
    }
}

/// One conversation in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    pub(super) last: Seq,
    pub(super) rows: Vec<Row>,
    /// The messages in their present state, and what belongs to them.
    pub(super) store: Store,
    /// Entries that changed nothing.
    pub(super) unchanged: Vec<Row>,
    /// Access version of `group`.
    pub(super) version: u64,
    pub(super) group: GroupRoster,
    /// What the change feed says: the ranges in their order, and the refused messages.
    pub(super) fed: Vec<(Seq, Seq)>,
    pub(super) fed_refusals: Vec<(UserId, MsgId)>,
}

impl Timeline {
    pub(super) fn find(&self, sender: &UserId, msg_id: &MsgId) -> Option<&Row> {
        self.rows.iter().find(|row| row.sender == *sender && row.msg_id == *msg_id)
    }
}

/// The database.
pub(super) type Timelines = BTreeMap<Conversation, Timeline>;

/// How a mutation breaks the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LedgerFlaws {
    pub(super) no_unique_ids: bool,
    pub(super) heads_stay: bool,
    pub(super) stale_versions: bool,
    pub(super) assumes_heads: bool,
    pub(super) assumes_versions: bool,
    pub(super) forgets_unchanged: bool,
    pub(super) feeds_early: bool,
}

/// The fake MySQL, with the faults of one worker.
#[derive(Debug, Clone)]
pub(super) struct FakeLedger {
    pub(super) timelines: Arc<Mutex<Timelines>>,
    /// Locked by transactions outside of the system.
    pub(super) locked: Locked,
    pub(super) faults: Faults,
    pub(super) flaws: LedgerFlaws,
}

/// The locked conversations.
pub(super) type Locked = Arc<Mutex<BTreeSet<Conversation>>>;

impl Ledger for FakeLedger {
    async fn transact(&self, attempt: Arc<Attempt>) -> Result<Outcome, LedgerError> {
        let conversations: Vec<Conversation> = attempt.batch.conversations().cloned().collect();
        let locked = self.locked(&conversations).await?;
        if !locked.is_empty() {
            return Err(LedgerError::Locked(locked));
        }
        let timelines = self.timelines.lock().clone();
        let mut tx = FakeTx { timelines, faults: self.faults.clone(), flaws: self.flaws };
        let outcome = attempt.run(&mut tx).await?;
        if self.flaws.feeds_early {
            feed(&outcome, &mut self.timelines.lock());
        } else {
            feed(&outcome, &mut tx.timelines);
        }
        let commit = self.faults.step(|| *self.timelines.lock() = tx.timelines);
        commit.map_err(broken)?;
        Ok(outcome)
    }

    fn feed(&self) -> Option<FeedShards> {
        FeedShards::new(2)
    }

    async fn locked(&self, conversations: &[Conversation]) -> Result<Vec<Conversation>, LedgerError> {
        let locked = self.locked.lock();
        let found = || conversations.iter().filter(|one| locked.contains(*one)).cloned().collect();
        self.faults.step(found).map_err(broken)
    }
}

/// Adds what a transaction writes to the feed.
fn feed(outcome: &Outcome, timelines: &mut Timelines) {
    for body in outcome.feed.iter().map(|row| &row.body) {
        for range in &body.ranges {
            let timeline = timelines.entry(range.conversation.clone()).or_default();
            timeline.fed.push((range.after, range.last));
        }
        for refused in &body.refused {
            let timeline = timelines.entry(refused.conversation.clone()).or_default();
            timeline.fed_refusals.push((refused.sender.clone(), refused.msg_id.clone()));
        }
    }
}

fn broken(error: Broken) -> LedgerError {
    LedgerError::Store(Box::new(error))
}

struct FakeTx {
    timelines: Timelines,
    faults: Faults,
    flaws: LedgerFlaws,
}

impl LedgerTx for FakeTx {
    type Error = LedgerError;

    async fn lock_heads(
        &mut self,
        conversations: &[&Conversation],
    ) -> Result<AHashMap<Conversation, Head>, LedgerError> {
        assert!(
            conversations.is_sorted(),
            "locking in another order than other transactions causes deadlocks"
        );
        let head = |conversation: &&Conversation| {
            let timeline = self.timelines.get(*conversation).cloned().unwrap_or_default();
            let access_version = if self.flaws.stale_versions { 1 } else { timeline.version };
            ((*conversation).clone(), Head { last_seq: timeline.last, access_version })
        };
        self.faults.step(|| conversations.iter().map(head).collect()).map_err(broken)
    }

    async fn advance_from(&mut self, heads: &[(&Conversation, Head, Seq)]) -> Result<(), LedgerError> {
        assert!(heads.is_sorted_by_key(|(conversation, ..)| *conversation), "as in lock_heads");
        for (conversation, before, after) in heads {
            let timeline = self.timelines.entry((*conversation).clone()).or_default();
            let is_last = timeline.last == before.last_seq || self.flaws.assumes_heads;
            let is_version = timeline.version == before.access_version || self.flaws.assumes_versions;
            if !(is_last && is_version) {
                return Err(LedgerError::Stale);
            }
            if !self.flaws.heads_stay {
                timeline.last = *after;
            }
        }
        self.faults.step(|| ()).map_err(broken)
    }

    async fn read_rosters(&mut self, queries: &[RosterQuery<'_>]) -> Result<Vec<Roster>, LedgerError> {
        let answer = |query: &RosterQuery<'_>| {
            let Some(timeline) = self.timelines.get(query.conversation) else { return Roster::NoGroup };
            let mut group = timeline.group.clone();
            if group.is_large {
                let asked = query.senders.iter();
                let asked = asked.map(|user| ((*user).clone(), group.members.get(*user).copied().flatten()));
                group.members = asked.collect();
            }
            Roster::Group(group)
        };
        self.faults.step(|| queries.iter().map(answer).collect()).map_err(broken)
    }

    async fn lock_usable_files(&mut self, files: &[&FileId]) -> Result<Vec<FileId>, LedgerError> {
        self.faults.step(|| files.iter().map(|file| (*file).clone()).collect()).map_err(broken)
    }

    async fn read_changes(&mut self, query: &ChangeQuery<'_>) -> Result<ChangeFacts, LedgerError> {
        let read = || self.timelines.get(query.conversation).map(|timeline| timeline.store.read(query));
        self.faults.step(|| read().unwrap_or_default()).map_err(broken)
    }

    async fn write_changes(
        &mut self,
        conversation: &Conversation,
        writes: &ChangeWrites,
    ) -> Result<(), LedgerError> {
        self.timelines.entry(conversation.clone()).or_default().store.write(writes);
        self.faults.step(|| ()).map_err(broken)
    }

    async fn insert_unchanged(&mut self, entries: &[&Numbered]) -> Result<(), LedgerError> {
        for message in entries.iter().filter(|_| !self.flaws.forgets_unchanged) {
            let timeline = self.timelines.entry(message.conversation.clone()).or_default();
            timeline.unchanged.push(Row::of(message.seq, message));
        }
        self.faults.step(|| ()).map_err(broken)
    }

    async fn find_ids(&mut self, messages: &[&Numbered]) -> Result<Vec<StoredId>, LedgerError> {
        let find = |message: &&Numbered| {
            let timeline = self.timelines.get(&message.conversation)?;
            let is_it = |row: &&Row| row.sender == message.sender && row.msg_id == message.msg_id;
            let stored = timeline.rows.iter().find(is_it);
            let row = stored.or_else(|| timeline.unchanged.iter().find(is_it))?;
            Some(StoredId {
                conversation: message.conversation.key().to_owned(),
                sender_id: row.sender.as_str().to_owned(),
                msg_id: row.msg_id.as_str().to_owned(),
                seq: row.seq,
                kind: row.kind.clone(),
                is_rewritten: false,
                changed_nothing: stored.is_none(),
            })
        };
        if self.flaws.no_unique_ids {
            return Ok(Vec::new());
        }
        self.faults.step(|| messages.iter().filter_map(find).collect()).map_err(broken)
    }

    async fn insert(&mut self, rows: &[(Seq, &Numbered)]) -> Result<(), LedgerError> {
        for (seq, message) in rows {
            let timeline = self.timelines.entry(message.conversation.clone()).or_default();
            let known = timeline.find(&message.sender, &message.msg_id).is_some();
            let taken = timeline.rows.iter().any(|row| row.seq == *seq);
            if taken || (known && !self.flaws.no_unique_ids) {
                return Err(LedgerError::Duplicate);
            }
            timeline.store.insert(*seq, message);
            timeline.rows.push(Row::of(*seq, message));
        }
        self.faults.step(|| ()).map_err(broken)
    }

    async fn advance_heads(&mut self, heads: &[(&Conversation, Seq)]) -> Result<(), LedgerError> {
        if !self.flaws.heads_stay {
            for (conversation, seq) in heads {
                self.timelines.entry((*conversation).clone()).or_default().last = *seq;
            }
        }
        self.faults.step(|| ()).map_err(broken)
    }
}

/// The data of Redis.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) counters: BTreeMap<Conversation, u64>,
    pub(super) sent: BTreeMap<(Conversation, UserId, MsgId), Seq>,
}

/// Redis.
#[derive(Debug, Default)]
pub(super) struct Redis {
    pub(super) memory: Memory,
    pub(super) saved: Memory,
    pub(super) is_unavailable: bool,
    /// The last sequence number of each conversation in the inboxes. Inboxes that are lost are rebuilt from the database,
    /// so a loss of data does not affect them.
    pub(super) recorded: BTreeMap<Conversation, Seq>,
}

/// The fake Redis, with the faults of one worker.
#[derive(Debug, Clone)]
pub(super) struct FakeSequencer {
    pub(super) redis: Arc<Mutex<Redis>>,
    pub(super) faults: Faults,
}

impl FakeSequencer {
    /// Records the last sequence number of a conversation in the inboxes.
    pub(super) fn record(&self, conversation: &Conversation, last_seq: Seq) -> Result<(), Broken> {
        let result = self.faults.step(|| {
            let mut redis = self.redis.lock();
            if redis.is_unavailable {
                return Err(Broken);
            }
            let recorded = redis.recorded.entry(conversation.clone()).or_default();
            *recorded = last_seq.max(*recorded);
            Ok(())
        });
        result?
    }
}

impl Sequencer for FakeSequencer {
    type Error = Broken;

    async fn take_above(&self, conversation: &Conversation, above: Seq, count: u32) -> Result<Seq, Broken> {
        let result = self.faults.step(|| {
            let mut redis = self.redis.lock();
            if redis.is_unavailable {
                return Err(Broken);
            }
            let counter = redis.memory.counters.entry(conversation.clone()).or_default();
            *counter = above.0.max(*counter) + u64::from(count);
            Ok(Seq(*counter + 1 - u64::from(count)))
        });
        result?
    }

    async fn remember(
        &self,
        conversation: &Conversation,
        sender: &UserId,
        msg_id: &MsgId,
        seq: Seq,
    ) -> Result<(), Broken> {
        let result = self.faults.step(|| {
            let mut redis = self.redis.lock();
            if redis.is_unavailable {
                return Err(Broken);
            }
            redis.memory.sent.insert((conversation.clone(), sender.clone(), msg_id.clone()), seq);
            Ok(())
        });
        result?
    }
}
