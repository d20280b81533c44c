//! The transaction around every change of a group.

use super::error::GroupError;
use super::policy::{GroupPolicy, LARGE_LINGERS_MS};
use super::read::find_in;
use crate::conversation::Conversation;
use crate::feed::{FeedBody, GroupChanged, NewRow, USERS_MAX};
use crate::ids::{Seq, UserId, unix_millis};
use crate::mysql::conversations::Head;
use crate::mysql::system_entries::{self, EntryId, SystemEntry};
use crate::mysql::{Pool, Transaction, Tx, access, run_tx};
use crate::permission::HistoryRange;

/// A committed change. A reader that applies all changes of a group in the order of their versions has its members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The access version since the change; `None` if nothing had to be changed.
    pub version: Option<u64>,
    /// New members, all with the plain role, and not muted unless [`joined_muted`](Self::joined_muted).
    pub joined: Vec<UserId>,
    /// The part of the history that concerns the new members.
    pub history: HistoryRange,
    /// Former members.
    pub left: Vec<UserId>,
    /// As in [`GroupSettings::merges_head`](crate::permission::GroupSettings), if members joined or left.
    pub merges_head: bool,
    /// Not all of the new members are unmuted: read their memberships from the database.
    pub joined_muted: bool,
    /// Users who have to be told that they are invited.
    pub invited: Vec<UserId>,
    /// The entry of the timeline that has to be sent (see [`system_entries`](crate::mysql::system_entries)).
    pub entry: Option<EntryId>,
}

/// The effect of a change on the list of members.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    pub(super) joined: Vec<UserId>,
    pub(super) history: HistoryRange,
    pub(super) left: Vec<UserId>,
    pub(super) joined_muted: bool,
    pub(super) invited: Vec<UserId>,
    /// Nothing is changed but invitations.
    pub(super) invites_only: bool,
    /// What members see of it.
    pub(super) entry: Option<SystemEntry>,
}

/// A change of a group, for [`change`]. It may run several times, so it changes nothing outside of the transaction.
pub trait GroupChange: Sync {
    /// The name of the transaction in the metrics.
    const NAME: &'static str;

    /// Checks the caller's right and changes the rows. The conversation's row is locked, with `last_seq` in it. Returns
    /// `None` if nothing had to be changed.
    ///
    /// # Errors
    /// [`GroupError`]
    fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        last_seq: Seq,
    ) -> impl Future<Output = Result<Option<Difference>, GroupError>> + Send;

    /// The member whose role or mute it changes.
    fn member(&self) -> Option<&UserId> {
        None
    }
}

/// Makes a change in one transaction. If it changed something, the members are counted and the access version is raised.
///
/// # Errors
/// [`GroupError`]; nothing is changed then.
pub async fn change<C: GroupChange>(
    pool: &Pool,
    group: &Conversation,
    policy: GroupPolicy,
    change: &C,
) -> Result<Changed, GroupError> {
    run_tx(pool, &ChangeTransaction { group, policy, change }).await
}

struct ChangeTransaction<'c, C> {
    group: &'c Conversation,
    policy: GroupPolicy,
    change: &'c C,
}

impl<C: GroupChange> Transaction for ChangeTransaction<'_, C> {
    type Output = Changed;
    type Error = GroupError;

    const NAME: &'static str = C::NAME;

    async fn run(&self, tx: &mut Tx) -> Result<Changed, GroupError> {
        let head: Head = access::lock(tx, self.group).await?;
        let Some(difference) = self.change.apply(tx, self.group, head.last_seq).await? else {
            return Ok(Changed::default());
        };
        let Difference { joined, history, left, joined_muted, invited, invites_only, entry } = difference;
        if invites_only {
            return Ok(Changed { invited, ..Changed::default() });
        }
        let mut counted = Counted::default();
        if !joined.is_empty() || !left.is_empty() {
            counted = count_members(tx, self.group, self.policy).await?;
        }
        let Counted { is_large, merges_head } = counted;
        let version = Some(access::raise(tx, self.group, head).await?);
        let shown = |entry: &SystemEntry| {
            self.policy.has_system_entries && (!is_large || entry.is_shown_in_large_groups())
        };
        let entry = match entry.filter(shown) {
            Some(entry) => Some(system_entries::insert(tx, self.group, &entry).await?),
            None => None,
        };
        Ok(Changed { version, joined, history, left, merges_head, joined_muted, invited, entry })
    }

    fn feed(&self, changed: &mut Changed) -> Vec<NewRow> {
        let (Some(shards), Some(version)) = (self.policy.feed, changed.version) else { return Vec::new() };
        let first = |users: &[UserId]| users.iter().take(USERS_MAX).cloned().collect();
        let group = GroupChanged {
            group: self.group.clone(),
            version,
            change: C::NAME.to_owned(),
            joined: first(&changed.joined),
            left: first(&changed.left),
            member: self.change.member().cloned(),
            is_cut: changed.joined.len().max(changed.left.len()) > USERS_MAX,
        };
        let body = FeedBody { group: Some(group), ..FeedBody::default() };
        vec![NewRow { shard: shards.of(self.group), body }]
    }
}

/// What counting the members of a group found.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    is_large: bool,
    /// Its `last_seq` is to be merged into syncs.
    merges_head: bool,
}

/// Counts the members, which also repairs a count that was wrong, and switches the group between large and small.
async fn count_members(
    tx: &mut Tx,
    group: &Conversation,
    policy: GroupPolicy,
) -> Result<Counted, GroupError> {
    let members: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM group_member WHERE group_id = ?")
        .bind(group.key())
        .fetch_one(&mut *tx)
        .await?;
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    policy.check(members)?;
    let was_large = find_in(tx, group).await?.is_some_and(|found| found.is_large);
    let is_large = policy.is_large(was_large, members);
    sqlx::query(
        "UPDATE chat_group SET members = ?, is_large = ?, large_until = IF(?, ?, large_until) WHERE group_id = ?",
    )
    .bind(members)
    .bind(is_large)
    .bind(was_large && !is_large)
    .bind(unix_millis() + LARGE_LINGERS_MS)
    .bind(group.key())
    .execute(&mut *tx)
    .await?;
    let merges: Option<bool> =
        sqlx::query_scalar("SELECT is_large OR large_until > ? FROM chat_group WHERE group_id = ?")
            .bind(unix_millis())
            .bind(group.key())
            .fetch_optional(&mut *tx)
            .await?;
    Ok(Counted { is_large, merges_head: merges.unwrap_or(false) })
}
