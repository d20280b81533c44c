//! The transaction of a batch: lock, check permissions, look up, plan, insert, advance.
//!
//! The traits exist for the simulation, which runs the same code on a fake database that can fail at any step.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::feed::{FeedShards, NewRow};
use shared::ids::{Seq, UserId};
use shared::message::{FileId, MessageKind, Numbered, Reuse};
use shared::mysql::changes::{ChangeFacts, ChangeQuery, ChangeWrites, ReactionQuery};
use shared::mysql::conversations::Head;
use shared::mysql::message_ids::StoredId;
use shared::mysql::rosters::RosterQuery;
use shared::permission::{Action, Denied, Roster};

use super::batch::Batch;
use super::changes::involved;
use super::feed;
pub(crate) use super::ledger_error::LedgerError;
use super::pending::Pending;
use super::permission_cache::VersionedRoster;
use super::plan::{KnownMessage, Situation, plan};
use super::remembered::Remembered;
use super::verdict::{Plan, Verdict};

/// The store of timelines.
pub(crate) trait Ledger: Send + Sync {
    /// Runs `attempt` in one transaction.
    ///
    /// # Errors
    /// [`LedgerError`]. After [`LedgerError::Store`] the transaction may have been committed.
    fn transact(&self, attempt: Arc<Attempt>) -> impl Future<Output = Result<Outcome, LedgerError>> + Send;

    /// The change feed that transactions add to, if it is on.
    fn feed(&self) -> Option<FeedShards>;

    /// Those of `conversations` that another transaction has locked now.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    fn locked(
        &self,
        conversations: &[Conversation],
    ) -> impl Future<Output = Result<Vec<Conversation>, LedgerError>> + Send;
}

/// The statements of an [`Attempt`].
pub(crate) trait LedgerTx: Send {
    /// Failure of a statement.
    type Error: Send;

    /// Locks `conversations` (sorted, each once) until the end of the transaction, and returns their rows.
    fn lock_heads(
        &mut self,
        conversations: &[&Conversation],
    ) -> impl Future<Output = Result<AHashMap<Conversation, Head>, Self::Error>> + Send;

    /// Locks conversations (sorted, each once), checks that their rows are as given, and sets their last sequence numbers.
    ///
    /// # Errors
    /// Also if a row is different: the transaction is rolled back.
    fn advance_from(
        &mut self,
        heads: &[(&Conversation, Head, Seq)],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The members of locked conversations, in the order of `queries`.
    fn read_rosters(
        &mut self,
        queries: &[RosterQuery<'_>],
    ) -> impl Future<Output = Result<Vec<Roster>, Self::Error>> + Send;

    /// Which of `messages` are stored.
    fn find_ids(
        &mut self,
        messages: &[&Numbered],
    ) -> impl Future<Output = Result<Vec<StoredId>, Self::Error>> + Send;

    /// Locks `files` until the end of the transaction, and returns those that may be sent.
    fn lock_usable_files(
        &mut self,
        files: &[&FileId],
    ) -> impl Future<Output = Result<Vec<FileId>, Self::Error>> + Send;

    /// What is stored about the messages of a locked conversation that are to be changed.
    fn read_changes(
        &mut self,
        query: &ChangeQuery<'_>,
    ) -> impl Future<Output = Result<ChangeFacts, Self::Error>> + Send;

    /// Stores messages; fails if the id or the sequence number of one is used.
    fn insert(&mut self, rows: &[(Seq, &Numbered)]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Writes what the change entries of a locked conversation change.
    fn write_changes(
        &mut self,
        conversation: &Conversation,
        writes: &ChangeWrites,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Records entries that changed nothing.
    fn insert_unchanged(
        &mut self,
        entries: &[&Numbered],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Sets the last sequence numbers of locked conversations.
    fn advance_heads(
        &mut self,
        heads: &[(&Conversation, Seq)],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// One batch to be committed. It changes nothing outside the transaction, so it can run several times.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) batch: Batch,
    pub(crate) remembered: Remembered,
    /// Time for mutes, in milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// As in [`Situation::overdue_since`].
    pub(crate) overdue_since: Option<Instant>,
    /// Look up every row and every id, and not only those that may have changed or be stored.
    pub(crate) look_up_all: bool,
    /// The change feed, if it is on.
    pub(crate) feed: Option<FeedShards>,
}

/// The result of an [`Attempt`].
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    /// The members of each conversation, in the order of the batch's groups.
    pub(crate) rosters: Vec<Arc<VersionedRoster>>,
    /// What the transaction adds to the change feed at its end.
    pub(crate) feed: Vec<NewRow>,
}

impl Attempt {
    /// Locks, plans and writes. What can be planned without the database is planned before it locks.
    ///
    /// # Errors
    /// Failure of a statement.
    pub(crate) async fn run<T: LedgerTx>(&self, tx: &mut T) -> Result<Outcome, T::Error> {
        if let Some(foreseen) = self.foresee() {
            return foreseen.run(tx).await;
        }
        let conversations: Vec<&Conversation> = self.batch.conversations().collect();
        let locked = tx.lock_heads(&conversations).await?;
        let head = |conversation: &&Conversation| locked.get(*conversation).copied().unwrap_or_default();
        let locked: Vec<Head> = conversations.iter().map(head).collect();
        let heads = last_seqs(&locked);
        let rosters = self.rosters(tx, &conversations, &locked).await?;
        let mut refusals = self.refusals(&rosters);
        self.refuse_without_files(tx, &mut refusals).await?;
        let known = self.look_up(tx, &heads, &refusals).await?;
        let facts = self.read_changes(tx).await?;
        let plan = self.plan(&heads, &rosters, &known, &refusals, &facts);
        let rows = plan.rows(&self.batch);
        if !rows.is_empty() {
            tx.insert(&rows).await?;
            for (conversation, writes) in conversations.iter().zip(&plan.changes) {
                if !writes.is_empty() {
                    tx.write_changes(conversation, writes).await?;
                }
            }
            let moved = conversations.into_iter().zip(heads.iter().zip(&plan.heads));
            let moved = moved.filter(|(_, (before, after))| before != after);
            let moved: Vec<(&Conversation, Seq)> = moved.map(|(id, (_, after))| (id, *after)).collect();
            tx.advance_heads(&moved).await?;
        }
        let judged = self.batch.messages().iter().zip(&plan.verdicts);
        let unchanged = judged.filter(|(_, verdict)| **verdict == Verdict::Unchanged);
        let unchanged: Vec<&Numbered> = unchanged.map(|(pending, _)| &pending.message).collect();
        if !unchanged.is_empty() {
            tx.insert_unchanged(&unchanged).await?;
        }
        Ok(self.outcome(plan, rosters, &heads))
    }

    /// Applies the rules to what is known about the batch; the parameters are those of a [`Situation`].
    pub(super) fn plan(
        &self,
        heads: &[Seq],
        rosters: &[Arc<VersionedRoster>],
        known: &[Option<KnownMessage>],
        refusals: &[Option<Denied>],
        facts: &[ChangeFacts],
    ) -> Plan {
        plan(&Situation {
            batch: &self.batch,
            heads,
            known,
            refusals,
            rosters: &rosters.iter().map(|versioned| &versioned.roster).collect::<Vec<_>>(),
            facts,
            voided: &self.remembered.voided,
            overdue_since: self.overdue_since,
        })
    }

    /// The result of a plan that is written. `heads`: the last sequence number of each conversation before.
    pub(super) fn outcome(&self, plan: Plan, rosters: Vec<Arc<VersionedRoster>>, heads: &[Seq]) -> Outcome {
        let feed = self.feed.map_or_else(Vec::new, |shards| feed::rows(&self.batch, &plan, heads, shards));
        Outcome { plan, rosters, feed }
    }

    /// The members of each conversation: from the cache where its entry is valid, else from the database, in one query.
    async fn rosters<T: LedgerTx>(
        &self,
        tx: &mut T,
        conversations: &[&Conversation],
        heads: &[Head],
    ) -> Result<Vec<Arc<VersionedRoster>>, T::Error> {
        let mut rosters: Vec<Option<Arc<VersionedRoster>>> = Vec::with_capacity(conversations.len());
        let (mut missing, mut queries) = (Vec::new(), Vec::new());
        for ((conversation, head), group) in conversations.iter().zip(heads).zip(self.batch.groups()) {
            let messages = &self.batch.messages()[group.clone()];
            let roster = self.known_roster(conversation, *head, messages);
            if roster.is_none() {
                missing.push(rosters.len());
                let senders: BTreeSet<&UserId> = senders(messages).collect();
                queries.push(RosterQuery { conversation, senders: senders.into_iter().collect() });
            }
            rosters.push(roster);
        }
        if !queries.is_empty() {
            metrics::counter!(shared::metrics::WORKER_PERMISSIONS_READ).increment(queries.len() as u64);
            for (at, roster) in missing.into_iter().zip(tx.read_rosters(&queries).await?) {
                let version = heads[at].access_version;
                let mut read = VersionedRoster { version, roster };
                if let Some(before) = self.remembered.permissions.get(conversations[at], version) {
                    read.extend(before);
                }
                rosters[at] = Some(Arc::new(read));
            }
        }
        let no_group = Arc::new(VersionedRoster { version: 0, roster: Roster::NoGroup });
        Ok(rosters.into_iter().map(|roster| roster.unwrap_or_else(|| Arc::clone(&no_group))).collect())
    }

    /// The members of a conversation, if no query is needed for them.
    pub(super) fn known_roster(
        &self,
        conversation: &Conversation,
        head: Head,
        messages: &[Pending],
    ) -> Option<Arc<VersionedRoster>> {
        let cached = self.remembered.permissions.get(conversation, head.access_version);
        let cached = cached.filter(|roster| roster.covers(senders(messages))).cloned();
        cached.or_else(|| VersionedRoster::without_query(conversation, head).map(Arc::new))
    }

    pub(super) fn refusals(&self, rosters: &[Arc<VersionedRoster>]) -> Vec<Option<Denied>> {
        let mut refusals = Vec::with_capacity(self.batch.messages().len());
        for (group, versioned) in self.batch.groups().iter().zip(rosters) {
            let messages = self.batch.messages()[group.clone()].iter().map(|pending| &pending.message);
            refusals.extend(messages.map(|m| {
                let relation = versioned.roster.relation(&m.conversation, &m.sender);
                let refusal = relation.check(Action::Send, || self.now_ms).err();
                // A system entry is the gateway's: who left is shown as its sender.
                refusal.filter(|_| m.kind != MessageKind::System)
            }));
        }
        refusals
    }

    /// Refuses messages with a file that was removed since the gateway accepted them.
    async fn refuse_without_files<T: LedgerTx>(
        &self,
        tx: &mut T,
        refusals: &mut [Option<Denied>],
    ) -> Result<(), T::Error> {
        let messages = self.batch.messages();
        let mut files: Vec<&FileId> = messages.iter().flat_map(|pending| pending.message.files()).collect();
        if files.is_empty() {
            return Ok(());
        }
        files.sort_unstable();
        files.dedup();
        let usable = tx.lock_usable_files(&files).await?;
        for (pending, refusal) in messages.iter().zip(refusals) {
            if pending.message.files().any(|file| !usable.contains(file)) {
                refusal.get_or_insert(Denied::FileGone);
            }
        }
        Ok(())
    }

    /// The messages that are stored already. New messages are not looked up at first: they
    /// rarely are stored, and the unique key of the table reports it. Messages that would be refused are looked up: one
    /// that is stored was accepted in time.
    async fn look_up<T: LedgerTx>(
        &self,
        tx: &mut T,
        heads: &[Seq],
        refusals: &[Option<Denied>],
    ) -> Result<Vec<Option<KnownMessage>>, T::Error> {
        let messages = self.batch.messages();
        let mut known = vec![None; messages.len()];
        let groups = self.batch.groups().iter().zip(heads);
        let suspects = groups.flat_map(|(group, head)| {
            group.clone().filter(|at| {
                self.look_up_all || refusals[*at].is_some() || may_be_stored(&messages[*at], *head)
            })
        });
        let suspects: Vec<usize> = suspects.collect();
        if suspects.is_empty() {
            return Ok(known);
        }
        let asked: Vec<&Numbered> = suspects.iter().map(|at| &messages[*at].message).collect();
        let found = tx.find_ids(&asked).await?;
        let found: HashMap<(&str, &str, &str), &StoredId, ahash::RandomState> = found
            .iter()
            .map(|id| ((id.conversation.as_str(), id.sender_id.as_str(), id.msg_id.as_str()), id))
            .collect();
        for (at, message) in suspects.into_iter().zip(asked) {
            let id = (message.conversation.key(), message.sender.as_str(), message.msg_id.as_str());
            known[at] = found.get(&id).map(|stored| KnownMessage {
                seq: stored.seq,
                is_reused: is_reused(stored.reuse_by(&message.kind)),
                changed_nothing: stored.changed_nothing,
            });
        }
        Ok(known)
    }

    /// What the change entries of each conversation refer to, in the order of the batch's groups; empty if the batch has
    /// none.
    async fn read_changes<T: LedgerTx>(&self, tx: &mut T) -> Result<Vec<ChangeFacts>, T::Error> {
        let messages = self.batch.messages();
        if messages.iter().all(|pending| pending.message.kind.changes().is_none()) {
            return Ok(Vec::new());
        }
        let mut facts = Vec::with_capacity(self.batch.groups().len());
        for (conversation, group) in self.batch.conversations().zip(self.batch.groups()) {
            let query = change_query(conversation, &messages[group.clone()]);
            facts.push(if query.targets.is_empty() {
                ChangeFacts::default()
            } else {
                tx.read_changes(&query).await?
            });
        }
        Ok(facts)
    }
}

pub(super) fn last_seqs(heads: &[Head]) -> Vec<Seq> {
    heads.iter().map(|head| head.last_seq).collect()
}

/// The users whose permissions `messages` need.
fn senders(messages: &[Pending]) -> impl Iterator<Item = &UserId> {
    messages.iter().flat_map(|pending| involved(&pending.message))
}

fn change_query<'a>(conversation: &'a Conversation, messages: &'a [Pending]) -> ChangeQuery<'a> {
    let mut query =
        ChangeQuery { conversation, targets: BTreeSet::new(), reactions: Vec::new(), pins: false };
    for message in messages.iter().map(|pending| &pending.message) {
        query.targets.extend(message.kind.changes());
        match &message.kind {
            MessageKind::Reaction { target, reaction, removes } => query.reactions.push(ReactionQuery {
                target: *target,
                reaction: reaction.as_str(),
                user: &message.sender,
                removes: *removes,
            }),
            MessageKind::Pin { .. } => query.pins = true,
            _ => {}
        }
    }
    query
}

/// A message with another content is settled as a retry: the content of the first one stays.
fn is_reused(reuse: Reuse) -> bool {
    reuse == Reuse::OtherMessage
}

pub(super) fn may_be_stored(pending: &Pending, head: Seq) -> bool {
    let message = &pending.message;
    // A change may be refused, or change nothing, because of the message that it changes.
    pending.seq <= head
        || message.retry
        || pending.redelivered
        || pending.attempted
        || message.kind.changes().is_some()
}
