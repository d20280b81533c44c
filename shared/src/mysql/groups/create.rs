//! Creating groups.

use super::change::{Changed, Difference, GroupChange, change};
use super::consent::{consenting, invite};
use super::error::GroupError;
use super::policy::GroupPolicy;
use super::read::find_in;
use super::rows::{insert_members, set_role};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};
use crate::mysql::system_entries::{SystemChange, SystemEntry};
use crate::mysql::{Pool, Tx, is_duplicate_key};
use crate::permission::{Actor, HistoryRange, Role};

/// Creates a group. Fails with [`GroupError::Exists`], [`GroupError::Full`] or [`GroupError::Refused`].
#[derive(Debug, Clone)]
pub struct CreateGroup {
    /// Its name; may be empty.
    pub name: String,
    /// Its owner; `None` for a group that only the operator may change.
    pub owner: Option<UserId>,
    /// Its other members: added, or invited if they want to be asked.
    pub members: Vec<UserId>,
    /// New members see the messages before them.
    pub history_from_start: bool,
    /// Anyone who uses the group joins it.
    pub is_open: bool,
}

impl GroupChange for CreateGroup {
    const NAME: &'static str = "create group";

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        last_seq: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        if find_in(tx, group).await?.is_some() {
            return Err(GroupError::Exists);
        }
        sqlx::query(
            "INSERT INTO chat_group (group_id, is_open, created_at, name, history_from_start) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(group.key())
        .bind(self.is_open)
        .bind(unix_millis())
        .bind(&self.name)
        .bind(self.history_from_start)
        .execute(&mut *tx)
        .await
        // An earlier version creates groups without locking anything first.
        .map_err(|error| if is_duplicate_key(&error) { GroupError::Exists } else { error.into() })?;
        let mut members: Vec<UserId> = self.members.iter().chain(&self.owner).cloned().collect();
        members.sort_unstable();
        members.dedup();
        let by = self.owner.clone().map_or(Actor::Operator, Actor::User);
        let (joined, invited) = consenting(tx, &by, members).await?;
        let invited = invite(tx, group, &by, invited).await?;
        let history = HistoryRange { join_seq: last_seq, floor: Seq::ZERO };
        insert_members(tx, group, &joined, history).await?;
        if let Some(owner) = &self.owner {
            set_role(tx, group, owner, Role::Owner).await?;
        }
        // Everyone who uses an open group joins it: a list of that would be no news.
        let entry = (!self.is_open).then(|| {
            let others = joined.iter().filter(|user| Some(*user) != self.owner.as_ref());
            SystemEntry::new(SystemChange::Created, &by, others.cloned().collect())
        });
        Ok(Some(Difference { joined, history, invited, entry, ..Difference::default() }))
    }
}

/// Creates an open group without members, unless a group of this name exists.
///
/// # Errors
/// The database's.
pub async fn create_open(
    pool: &Pool,
    group: &Conversation,
    policy: GroupPolicy,
) -> Result<Changed, GroupError> {
    let new = CreateGroup {
        name: String::new(),
        owner: None,
        members: Vec::new(),
        history_from_start: true,
        is_open: true,
    };
    match change(pool, group, policy, &new).await {
        Err(GroupError::Exists) => Ok(Changed::default()),
        created => created,
    }
}
