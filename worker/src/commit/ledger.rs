//! The transaction, seen from the rules: lock, see who may send, look up, insert, advance.
//!
//! The traits exist for the simulation, whose twin of the database fails at any step on demand and runs the same code.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::Numbered;
use shared::mysql::conversations::Head;
use shared::mysql::rosters::RosterQuery;
use shared::mysql::timeline::{StoredId, Target};
use shared::mysql::{self, Pool, Transaction, Tx};
use shared::permission::{Action, Denied, Roster};
use sqlx::Connection as _;

use super::batch::Batch;
use super::pending::Pending;
use super::plan::{Recall, Recallable, Situation, plan};
use super::rights::{Memory, Rights};
use super::spent::Spent;
use super::verdict::Plan;

/// Where timelines are kept.
pub trait Ledger: Send + Sync {
    /// Runs `attempt` in one transaction: all of it is durable afterwards, or nothing.
    ///
    /// # Errors
    /// [`LedgerError`]. After [`LedgerError::Store`] it may be durable all the same.
    fn transact(&self, attempt: Arc<Attempt>) -> impl Future<Output = Result<Outcome, LedgerError>> + Send;
}

/// What an [`Attempt`] asks of the transaction that it runs in.
pub trait LedgerTx: Send {
    /// What may go wrong in a statement.
    type Error: Send;

    /// Locks `conversations` (sorted, each once) until the end of the transaction and returns their rows.
    fn lock_heads(
        &mut self,
        conversations: &[&Conversation],
    ) -> impl Future<Output = Result<AHashMap<Conversation, Head>, Self::Error>> + Send;

    /// Who may send to locked conversations, in the order of `questions`.
    fn read_senders(
        &mut self,
        questions: &[RosterQuery<'_>],
    ) -> impl Future<Output = Result<Vec<Roster>, Self::Error>> + Send;

    /// Which of `messages` are stored.
    fn find_ids(
        &mut self,
        messages: &[&Numbered],
    ) -> impl Future<Output = Result<Vec<StoredId>, Self::Error>> + Send;

    /// What is stored under these numbers of locked conversations.
    fn find_targets(
        &mut self,
        numbers: &[(&Conversation, Seq)],
    ) -> impl Future<Output = Result<Vec<Target>, Self::Error>> + Send;

    /// Stores messages; fails if one is there under its id or number.
    fn insert(&mut self, rows: &[(Seq, &Numbered)]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Recalls what is stored under these numbers.
    fn blank(
        &mut self,
        numbers: &[(&Conversation, Seq)],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Moves last numbers of locked conversations.
    fn advance_heads(
        &mut self,
        heads: &[(&Conversation, Seq)],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Why a transaction did not end well.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A message that was not looked up is stored already; nothing was changed.
    #[error("a message is stored already")]
    Duplicate,
    /// As the store says. Try again: no message can be at fault, they were checked.
    #[error("{0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One batch on its way into the ledger. Changes nothing outside the transaction, so it may run several times.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The messages.
    pub batch: Batch,
    /// Numbers that nobody will bring.
    pub spent: Spent,
    /// Who may send, as far as that is known.
    pub memory: Memory,
    /// For mutes, in milliseconds since 1970.
    pub now_ms: i64,
    /// As in [`Situation::patience_ended`].
    pub patience_ended: Option<Instant>,
    /// Look up every id, not only those that are likely to be there.
    pub look_up_all: bool,
}

/// What an [`Attempt`] came to.
#[derive(Debug)]
pub struct Outcome {
    /// What became of the messages.
    pub plan: Plan,
    /// Who may send to each conversation, in the order of the batch's groups.
    pub rights: Vec<Arc<Rights>>,
}

impl Attempt {
    /// Locks, plans, writes.
    ///
    /// # Errors
    /// The first failed statement's.
    pub async fn run<T: LedgerTx>(&self, tx: &mut T) -> Result<Outcome, T::Error> {
        let conversations: Vec<&Conversation> = self.batch.conversations().collect();
        let locked = tx.lock_heads(&conversations).await?;
        let head = |conversation: &&Conversation| locked.get(*conversation).copied().unwrap_or_default();
        let locked: Vec<Head> = conversations.iter().map(head).collect();
        let heads: Vec<Seq> = locked.iter().map(|head| head.last_seq).collect();
        let rights = self.rights(tx, &conversations, &locked).await?;
        let refusals = self.refusals(&rights);
        let known = self.look_up(tx, &heads, &refusals).await?;
        let recalls = self.recalls(tx, &rights).await?;
        let plan = plan(&Situation {
            batch: &self.batch,
            heads: &heads,
            known: &known,
            refusals: &refusals,
            recalls: &recalls,
            spent: &self.spent,
            patience_ended: self.patience_ended,
        });
        let judged = self.batch.messages().iter().zip(&plan.verdicts);
        let rows: Vec<(Seq, &Numbered)> = judged
            .filter(|(_, verdict)| verdict.stores())
            .map(|(pending, _)| (pending.seq, &pending.message))
            .collect();
        if !rows.is_empty() {
            tx.insert(&rows).await?;
            let recalled =
                rows.iter().filter_map(|(_, m)| m.kind.recalls().map(|seq| (&m.conversation, seq)));
            let recalled: Vec<(&Conversation, Seq)> = recalled.collect();
            if !recalled.is_empty() {
                tx.blank(&recalled).await?;
            }
            let moved = conversations.into_iter().zip(heads.iter().zip(&plan.heads));
            let moved = moved.filter(|(_, (before, after))| before != after);
            let moved: Vec<(&Conversation, Seq)> = moved.map(|(id, (_, after))| (id, *after)).collect();
            tx.advance_heads(&moved).await?;
        }
        Ok(Outcome { plan, rights })
    }

    /// Who may send to each conversation: what is remembered if it is still true, else what the database says, all in
    /// one go.
    async fn rights<T: LedgerTx>(
        &self,
        tx: &mut T,
        conversations: &[&Conversation],
        heads: &[Head],
    ) -> Result<Vec<Arc<Rights>>, T::Error> {
        let mut rights: Vec<Option<Arc<Rights>>> = Vec::with_capacity(conversations.len());
        let (mut unknown, mut questions) = (Vec::new(), Vec::new());
        for ((conversation, head), group) in conversations.iter().zip(heads).zip(self.batch.groups()) {
            let senders =
                || self.batch.messages()[group.clone()].iter().map(|pending| &pending.message.sender);
            let known = self.memory.of(conversation, head.access_version).filter(|r| r.covers(senders()));
            let known = known.cloned().or_else(|| Rights::of_unchanged(conversation, *head).map(Arc::new));
            if known.is_none() {
                unknown.push(rights.len());
                let senders: BTreeSet<&UserId> = senders().collect();
                questions.push(RosterQuery { conversation, senders: senders.into_iter().collect() });
            }
            rights.push(known);
        }
        if !questions.is_empty() {
            metrics::counter!(shared::metrics::WORKER_RIGHTS_READ).increment(questions.len() as u64);
            for (at, roster) in unknown.into_iter().zip(tx.read_senders(&questions).await?) {
                let version = heads[at].access_version;
                let mut read = Rights { version, roster };
                if let Some(before) = self.memory.of(conversations[at], version) {
                    read.extend(before);
                }
                rights[at] = Some(Arc::new(read));
            }
        }
        let nobody = Arc::new(Rights { version: 0, roster: Roster::NoGroup });
        Ok(rights.into_iter().map(|rights| rights.unwrap_or_else(|| Arc::clone(&nobody))).collect())
    }

    fn refusals(&self, rights: &[Arc<Rights>]) -> Vec<Option<Denied>> {
        let mut refusals = Vec::with_capacity(self.batch.messages().len());
        for (group, rights) in self.batch.groups().iter().zip(rights) {
            let messages = self.batch.messages()[group.clone()].iter().map(|pending| &pending.message);
            refusals.extend(messages.map(|m| {
                let relation = rights.roster.relation(&m.conversation, &m.sender);
                relation.check(Action::Send, || self.now_ms).err()
            }));
        }
        refusals
    }

    /// The final numbers of what is stored already. A new message rarely is, and the unique key of the table tells if
    /// one is: those are not asked for at first. What would be refused is: if it is stored, it was taken in time.
    async fn look_up<T: LedgerTx>(
        &self,
        tx: &mut T,
        heads: &[Seq],
        refusals: &[Option<Denied>],
    ) -> Result<Vec<Option<Seq>>, T::Error> {
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
        let found: HashMap<(&str, &str, &str), Seq, ahash::RandomState> = found
            .iter()
            .map(|id| ((id.conversation.as_str(), id.sender_id.as_str(), id.msg_id.as_str()), id.seq))
            .collect();
        for (at, message) in suspects.into_iter().zip(asked) {
            let id = (message.conversation.key(), message.sender.as_str(), message.msg_id.as_str());
            known[at] = found.get(&id).copied();
        }
        Ok(known)
    }

    /// The recalls of the batch, with what they recall.
    async fn recalls<T: LedgerTx>(
        &self,
        tx: &mut T,
        rights: &[Arc<Rights>],
    ) -> Result<AHashMap<usize, Recall>, T::Error> {
        let mut recalls = AHashMap::new();
        let mut numbers = Vec::new();
        for (group, rights) in self.batch.groups().iter().zip(rights) {
            for at in group.clone() {
                let message = &self.batch.messages()[at].message;
                if let Some(target) = message.kind.recalls() {
                    numbers.push((&message.conversation, target));
                    let by = rights.roster.relation(&message.conversation, &message.sender);
                    recalls.insert(at, Recall { target, stored: None, by });
                }
            }
        }
        if numbers.is_empty() {
            return Ok(recalls);
        }
        let found = tx.find_targets(&numbers).await?;
        let found: AHashMap<(&str, Seq), &Target> =
            found.iter().map(|target| ((target.conversation.as_str(), target.seq), target)).collect();
        for (at, recall) in &mut recalls {
            let conversation = self.batch.messages()[*at].message.conversation.key();
            recall.stored = found.get(&(conversation, recall.target)).map(|target| Recallable {
                sender_id: target.sender_id.clone(),
                is_recall: target.is_recall,
            });
        }
        Ok(recalls)
    }
}

fn may_be_stored(pending: &Pending, head: Seq) -> bool {
    let message = &pending.message;
    // A recall may be refused for what it recalls.
    pending.seq <= head
        || message.retry
        || pending.redelivered
        || pending.attempted
        || message.kind.recalls().is_some()
}

/// The real one.
#[derive(Debug, Clone)]
pub struct MysqlLedger {
    pool: Pool,
}

impl MysqlLedger {
    /// Works on `pool`.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn ping(&self) -> Result<(), LedgerError> {
        let asked = async {
            let mut connection = self.pool.acquire().await?;
            let answered = connection.ping().await;
            connection.finish(answered)
        };
        asked.await.map_err(|error| LedgerError::Store(Box::new(error)))
    }
}

impl Ledger for MysqlLedger {
    async fn transact(&self, attempt: Arc<Attempt>) -> Result<Outcome, LedgerError> {
        let transaction = CommitTransaction(attempt);
        mysql::run_tx(&self.pool, &transaction).await.map_err(|error| {
            if mysql::is_duplicate_key(&error) {
                LedgerError::Duplicate
            } else {
                LedgerError::Store(Box::new(error))
            }
        })
    }
}

struct CommitTransaction(Arc<Attempt>);

impl Transaction for CommitTransaction {
    type Output = Outcome;
    type Error = sqlx::Error;

    const NAME: &'static str = "commit";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<Outcome> {
        self.0.run(&mut MysqlTx(tx)).await
    }
}

struct MysqlTx<'t>(&'t mut Tx);

impl LedgerTx for MysqlTx<'_> {
    type Error = sqlx::Error;

    async fn lock_heads(
        &mut self,
        conversations: &[&Conversation],
    ) -> sqlx::Result<AHashMap<Conversation, Head>> {
        mysql::conversations::lock_heads(self.0, conversations).await
    }

    async fn read_senders(&mut self, questions: &[RosterQuery<'_>]) -> sqlx::Result<Vec<Roster>> {
        mysql::rosters::read(self.0, questions).await
    }

    async fn find_ids(&mut self, messages: &[&Numbered]) -> sqlx::Result<Vec<StoredId>> {
        mysql::timeline::find_ids(self.0, messages).await
    }

    async fn find_targets(&mut self, numbers: &[(&Conversation, Seq)]) -> sqlx::Result<Vec<Target>> {
        mysql::timeline::find_targets(self.0, numbers).await
    }

    async fn blank(&mut self, numbers: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
        mysql::timeline::blank(self.0, numbers).await
    }

    async fn insert(&mut self, rows: &[(Seq, &Numbered)]) -> sqlx::Result<()> {
        mysql::timeline::insert(self.0, rows).await
    }

    async fn advance_heads(&mut self, heads: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
        mysql::conversations::advance_heads(self.0, heads).await
    }
}
