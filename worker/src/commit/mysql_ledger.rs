//! The statements of an attempt in MySQL.

use std::sync::Arc;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::feed::{FeedShards, NewRow};
use shared::ids::Seq;
use shared::message::{FileId, Numbered};
use shared::mysql::changes::{ChangeFacts, ChangeQuery, ChangeWrites};
use shared::mysql::conversations::Head;
use shared::mysql::message_ids::StoredId;
use shared::mysql::ready::NotReady;
use shared::mysql::rosters::RosterQuery;
use shared::mysql::{self, Pool, Transaction, Tx};
use shared::permission::Roster;

use super::ledger::{Attempt, Ledger, LedgerError, LedgerTx, Outcome};

/// The timelines in MySQL.
#[derive(Debug, Clone)]
pub(crate) struct MysqlLedger {
    pool: Pool,
    feed: Option<FeedShards>,
}

impl MysqlLedger {
    /// The timelines behind `pool`, and the change feed, if it is on.
    #[must_use]
    pub(crate) fn new(pool: Pool, feed: Option<FeedShards>) -> Self {
        Self { pool, feed }
    }

    /// Whether a transaction can be committed now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn check(&self) -> Result<(), NotReady> {
        mysql::ready::check(&self.pool).await
    }
}

impl Ledger for MysqlLedger {
    async fn transact(&self, attempt: Arc<Attempt>) -> Result<Outcome, LedgerError> {
        let transaction = CommitTransaction(attempt);
        let error = match mysql::run_tx(&self.pool, &transaction).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if mysql::is_duplicate_key(&error) {
            return Err(LedgerError::Duplicate);
        }
        if matches!(error, sqlx::Error::RowNotFound) {
            return Err(LedgerError::Stale);
        }
        if mysql::is_lock_wait_timeout(&error) {
            let conversations: Vec<Conversation> = transaction.0.batch.conversations().cloned().collect();
            let locked = self.locked(&conversations).await?;
            if !locked.is_empty() {
                return Err(LedgerError::Locked(locked));
            }
        }
        Err(LedgerError::Store(Box::new(error)))
    }

    fn feed(&self) -> Option<FeedShards> {
        self.feed
    }

    async fn locked(&self, conversations: &[Conversation]) -> Result<Vec<Conversation>, LedgerError> {
        let locked = mysql::conversations::locked(&self.pool, conversations).await;
        locked.map_err(|error| LedgerError::Store(Box::new(error)))
    }
}

struct CommitTransaction(Arc<Attempt>);

impl Transaction for CommitTransaction {
    type Output = Outcome;
    type Error = sqlx::Error;

    const NAME: &'static str = "commit";
    // The conversation is set aside instead.
    const WAITS_FOR_LOCKS: bool = false;

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<Outcome> {
        self.0.run(&mut MysqlTx(tx)).await
    }

    fn feed(&self, outcome: &mut Outcome) -> Vec<NewRow> {
        std::mem::take(&mut outcome.feed)
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

    async fn advance_from(&mut self, heads: &[(&Conversation, Head, Seq)]) -> sqlx::Result<()> {
        mysql::conversations::advance_from(self.0, heads).await
    }

    async fn read_rosters(&mut self, queries: &[RosterQuery<'_>]) -> sqlx::Result<Vec<Roster>> {
        mysql::rosters::read(self.0, queries).await
    }

    async fn find_ids(&mut self, messages: &[&Numbered]) -> sqlx::Result<Vec<StoredId>> {
        mysql::message_ids::find_ids(self.0, messages).await
    }

    async fn lock_usable_files(&mut self, files: &[&FileId]) -> sqlx::Result<Vec<FileId>> {
        mysql::files::lock_usable(self.0, files).await
    }

    async fn read_changes(&mut self, query: &ChangeQuery<'_>) -> sqlx::Result<ChangeFacts> {
        mysql::changes::read(self.0, query).await
    }

    async fn write_changes(
        &mut self,
        conversation: &Conversation,
        writes: &ChangeWrites,
    ) -> sqlx::Result<()> {
        mysql::changes::write(self.0, conversation, writes).await
    }

    async fn insert_unchanged(&mut self, entries: &[&Numbered]) -> sqlx::Result<()> {
        mysql::changes::insert_unchanged(self.0, entries).await
    }

    async fn insert(&mut self, rows: &[(Seq, &Numbered)]) -> sqlx::Result<()> {
        mysql::timeline::insert(self.0, rows).await
    }

    async fn advance_heads(&mut self, heads: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
        mysql::conversations::advance_heads(self.0, heads).await
    }
}
