//! The transaction, seen from the rules: lock, look up, insert, advance.
//!
//! The traits exist for the simulation, whose twin of the database fails at any step on demand and runs the same code.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::envelope::ChatMessage;
use shared::ids::Seq;
use shared::mysql::timeline::StoredId;
use shared::mysql::{self, Pool, Tx};
use sqlx::Connection as _;

use super::batch::Batch;
use super::pending::Pending;
use super::plan::{Plan, Situation, plan};
use super::spent::Spent;

/// Where timelines are kept.
pub trait Ledger: Send + Sync {
    /// Runs `attempt` in one transaction: all of it is durable afterwards, or nothing.
    ///
    /// # Errors
    /// [`LedgerError`]. After [`LedgerError::Store`] it may be durable all the same.
    fn transact(&self, attempt: Arc<Attempt>) -> impl Future<Output = Result<Plan, LedgerError>> + Send;
}

/// What an [`Attempt`] asks of the transaction that it runs in.
pub trait LedgerTx: Send {
    /// What may go wrong in a statement.
    type Error: Send;

    /// Locks `conversations` (sorted, each once) until the end of the transaction and returns their last numbers.
    fn lock_heads(
        &mut self,
        conversations: &[&Conversation],
    ) -> impl Future<Output = Result<AHashMap<Conversation, Seq>, Self::Error>> + Send;

    /// Which of `messages` are stored.
    fn find_ids(
        &mut self,
        messages: &[&ChatMessage],
    ) -> impl Future<Output = Result<Vec<StoredId>, Self::Error>> + Send;

    /// Stores messages; fails if one is there under its id or number.
    fn insert(
        &mut self,
        rows: &[(Seq, &ChatMessage)],
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
    /// As in [`Situation::patience_ended`].
    pub patience_ended: Option<Instant>,
    /// Look up every id, not only those that are likely to be there.
    pub look_up_all: bool,
}

impl Attempt {
    /// Locks, plans, writes.
    ///
    /// # Errors
    /// The first failed statement's.
    pub async fn run<T: LedgerTx>(&self, tx: &mut T) -> Result<Plan, T::Error> {
        let conversations: Vec<&Conversation> = self.batch.conversations().collect();
        let locked = tx.lock_heads(&conversations).await?;
        let head = |conversation: &&Conversation| locked.get(*conversation).copied().unwrap_or(Seq::ZERO);
        let heads: Vec<Seq> = conversations.iter().map(head).collect();
        let known = self.look_up(tx, &heads).await?;
        let plan = plan(&Situation {
            batch: &self.batch,
            heads: &heads,
            known: &known,
            spent: &self.spent,
            patience_ended: self.patience_ended,
        });
        let judged = self.batch.messages().iter().zip(&plan.verdicts);
        let rows: Vec<(Seq, &ChatMessage)> = judged
            .filter(|(_, verdict)| verdict.stores())
            .map(|(pending, _)| (pending.seq, &pending.message))
            .collect();
        if !rows.is_empty() {
            tx.insert(&rows).await?;
            let moved = conversations.into_iter().zip(heads.iter().zip(&plan.heads));
            let moved = moved.filter(|(_, (before, after))| before != after);
            let moved: Vec<(&Conversation, Seq)> = moved.map(|(id, (_, after))| (id, *after)).collect();
            tx.advance_heads(&moved).await?;
        }
        Ok(plan)
    }

    /// The final numbers of what is stored already. A new message rarely is, and the unique key of the table tells if
    /// one is: those are not asked for at first.
    async fn look_up<T: LedgerTx>(&self, tx: &mut T, heads: &[Seq]) -> Result<Vec<Option<Seq>>, T::Error> {
        let messages = self.batch.messages();
        let mut known = vec![None; messages.len()];
        let groups = self.batch.groups().iter().zip(heads);
        let suspects = groups.flat_map(|(group, head)| {
            group.clone().filter(|at| self.look_up_all || may_be_stored(&messages[*at], *head))
        });
        let suspects: Vec<usize> = suspects.collect();
        if suspects.is_empty() {
            return Ok(known);
        }
        let asked: Vec<&ChatMessage> = suspects.iter().map(|at| &messages[*at].message).collect();
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
}

fn may_be_stored(pending: &Pending, head: Seq) -> bool {
    pending.seq <= head || pending.message.retry || pending.redelivered || pending.attempted
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
        let asked = async { self.pool.acquire().await?.ping().await };
        asked.await.map_err(|error| LedgerError::Store(Box::new(error)))
    }
}

impl Ledger for MysqlLedger {
    async fn transact(&self, attempt: Arc<Attempt>) -> Result<Plan, LedgerError> {
        let done = mysql::run_tx(&self.pool, "commit", move |tx| {
            let attempt = Arc::clone(&attempt);
            Box::pin(async move { attempt.run(&mut MysqlTx(tx)).await })
        });
        done.await.map_err(|error: sqlx::Error| {
            if mysql::is_duplicate_key(&error) {
                LedgerError::Duplicate
            } else {
                LedgerError::Store(Box::new(error))
            }
        })
    }
}

struct MysqlTx<'t>(&'t mut Tx);

impl LedgerTx for MysqlTx<'_> {
    type Error = sqlx::Error;

    async fn lock_heads(
        &mut self,
        conversations: &[&Conversation],
    ) -> sqlx::Result<AHashMap<Conversation, Seq>> {
        let heads = mysql::conversations::lock_heads(self.0, conversations).await?;
        Ok(heads.into_iter().map(|(conversation, head)| (conversation, head.last_seq)).collect())
    }

    async fn find_ids(&mut self, messages: &[&ChatMessage]) -> sqlx::Result<Vec<StoredId>> {
        mysql::timeline::find_ids(self.0, messages).await
    }

    async fn insert(&mut self, rows: &[(Seq, &ChatMessage)]) -> sqlx::Result<()> {
        mysql::timeline::insert(self.0, rows).await
    }

    async fn advance_heads(&mut self, heads: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
        mysql::conversations::advance_heads(self.0, heads).await
    }
}
