//! The users of conversations, read by a commit for the permission check.
//!
//! They are read in the transaction of the commit, after the conversation's row is locked. Every change of permissions
//! locks that row too and raises its version (see [`access`](super::access)), so the roster is true for all messages of
//! the transaction, and for later ones while the version stays the same.

use std::sync::LazyLock;

use ahash::{AHashMap, AHashSet};
use sqlx::Row as _;

use super::Tx;
use super::multi_row::MultiRow;
use crate::conversation::{Conversation, Kind};
use crate::ids::UserId;
use crate::permission::{GroupRoster, MemberStatus, Role, Roster};

/// A question for one conversation's roster.
#[derive(Debug, Clone)]
pub struct RosterQuery<'a> {
    /// The conversation.
    pub conversation: &'a Conversation,
    /// The senders to check: of a large group, only these are read.
    pub senders: Vec<&'a UserId>,
}

static GROUPS: LazyLock<MultiRow> = LazyLock::new(|| {
    let before =
        "SELECT group_id, is_muted, is_large FROM chat_group WHERE NOT is_dismissed AND group_id IN (";
    MultiRow::new(before, "?", ",", ")")
});
static MEMBERS: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "SELECT group_id, user_id, role, muted_until FROM group_member WHERE group_id IN (";
    MultiRow::new(before, "?", ",", ")")
});
// OR of equalities instead of a row-value IN: both engines read it as one range each on the key.
static SOME_MEMBERS: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "SELECT group_id, user_id, role, muted_until FROM group_member WHERE ";
    MultiRow::new(before, "(group_id=? AND user_id=?)", " OR ", "")
});
static BLOCKS: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "SELECT user_id, blocked_id FROM user_block WHERE ";
    MultiRow::new(before, "(user_id=? AND blocked_id=?)", " OR ", "")
});

/// The roster for each of `queries`, in their order. The transaction has locked the conversations.
///
/// # Errors
/// The database's.
pub async fn read(tx: &mut Tx, queries: &[RosterQuery<'_>]) -> sqlx::Result<Vec<Roster>> {
    let blocks = blocks(tx, queries).await?;
    let mut groups = groups(tx, queries).await?;
    let (mut whole, mut some) = (Vec::new(), Vec::new());
    for query in queries {
        let key = query.conversation.key();
        match groups.get_mut(key) {
            Some(group) if group.is_large => {
                let asked = query.senders.iter();
                group.members.extend(asked.clone().map(|user| ((*user).clone(), None)));
                some.extend(asked.map(|user| [key, user.as_str()]));
            }
            Some(_) => whole.push([key]),
            None => {}
        }
    }
    for row in
        MEMBERS.select(tx, None, &whole).await?.into_iter().chain(SOME_MEMBERS.select(tx, None, &some).await?)
    {
        let (group, user): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Ok(user) = UserId::parse(user) else {
            tracing::error!(%group, %user, "ill-formed id in group_member");
            continue;
        };
        let status = MemberStatus { role: Role::from_stored(row.try_get(2)?), muted_until: row.try_get(3)? };
        if let Some(group) = groups.get_mut(group) {
            group.members.insert(user, Some(status));
        }
    }
    let answers = queries.iter().map(|query| match query.conversation.kind() {
        Kind::Private(lo, hi) => {
            let is_blocked = |user: &&str| blocks.contains(&(if *user == lo { hi } else { lo }, *user));
            let blocked = [lo, hi].into_iter().filter(is_blocked);
            Roster::Private { blocked: blocked.filter_map(|user| UserId::parse(user).ok()).collect() }
        }
        Kind::Group => groups.remove(query.conversation.key()).map_or(Roster::NoGroup, Roster::Group),
    });
    Ok(answers.collect())
}

/// The existing groups among `queries`, without their members.
async fn groups<'a>(
    tx: &mut Tx,
    queries: &[RosterQuery<'a>],
) -> sqlx::Result<AHashMap<&'a str, GroupRoster>> {
    let asked = queries.iter().map(|query| query.conversation);
    let keys: Vec<[&str; 1]> = asked.filter(|c| c.kind() == Kind::Group).map(|c| [c.key()]).collect();
    let all: AHashSet<&str> = keys.iter().map(|[key]| *key).collect();
    let mut groups = AHashMap::with_capacity(keys.len());
    for row in GROUPS.select(tx, None, &keys).await? {
        let group: &str = row.try_get(0)?;
        if let Some(key) = all.get(group) {
            let members = AHashMap::new();
            let found = GroupRoster { is_muted: row.try_get(1)?, is_large: row.try_get(2)?, members };
            groups.insert(*key, found);
        }
    }
    Ok(groups)
}

/// The blocks within the private conversations among `queries`, as pairs of the blocking and the blocked user.
async fn blocks<'a>(tx: &mut Tx, queries: &[RosterQuery<'a>]) -> sqlx::Result<AHashSet<(&'a str, &'a str)>> {
    let mut pairs = Vec::new();
    for query in queries {
        if let Kind::Private(lo, hi) = query.conversation.kind() {
            pairs.extend([[lo, hi], [hi, lo]]);
        }
    }
    let all: AHashMap<[&str; 2], usize> = pairs.iter().copied().zip(0..).collect();
    let mut blocks = AHashSet::new();
    for row in BLOCKS.select(tx, None, &pairs).await? {
        let at = all.get(&[row.try_get(0)?, row.try_get(1)?]);
        blocks.extend(at.map(|at| (pairs[*at][0], pairs[*at][1])));
    }
    Ok(blocks)
}
