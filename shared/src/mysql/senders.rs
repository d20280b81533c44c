//! Who may send to a conversation.
//!
//! Read by whoever commits to it, in the same transaction, after locking its row: every change of who may do what locks
//! that row too and raises its version (see [`access`](super::access)), so what is read here is true for all messages of
//! the transaction, and for later ones as long as the version stays.

use std::sync::LazyLock;

use ahash::{AHashMap, AHashSet};
use sqlx::Row as _;

use super::Tx;
use super::members::Role;
use super::shapes::Shapes;
use crate::conversation::{Conversation, Kind};
use crate::ids::UserId;

/// What is asked about one conversation.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Which one.
    pub conversation: &'a Conversation,
    /// Who wants to send: of a large group, nobody else is read.
    pub senders: Vec<&'a UserId>,
}

/// A member of a group, as far as sending goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Its role.
    pub role: Role,
    /// Until when it may not send, in milliseconds since 1970.
    pub muted_until: i64,
}

/// Who may send to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Senders {
    /// The two users of a private conversation.
    Pair {
        /// Those of them from whom the other one takes no messages.
        blocked: Vec<UserId>,
    },
    /// A group's members.
    Group(GroupSenders),
    /// Nobody: there is no such group, or it is no more.
    NoGroup,
}

/// What counts for sending to a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupSenders {
    /// Only owner and admins may send.
    pub is_muted: bool,
    /// Gets no inbox entries.
    pub is_large: bool,
    /// All members; of a large group, those that were asked about, `None` for one that is no member.
    pub members: AHashMap<UserId, Option<Sender>>,
}

static GROUPS: LazyLock<Shapes> = LazyLock::new(|| {
    let before =
        "SELECT group_id, is_muted, is_large FROM chat_group WHERE NOT is_dismissed AND group_id IN (";
    Shapes::new(before, "?", ",", ")")
});
static MEMBERS: LazyLock<Shapes> = LazyLock::new(|| {
    let before = "SELECT group_id, user_id, role, muted_until FROM group_member WHERE group_id IN (";
    Shapes::new(before, "?", ",", ")")
});
// OR of equalities instead of a row-value IN: both engines read it as one range each on the key.
static SOME_MEMBERS: LazyLock<Shapes> = LazyLock::new(|| {
    let before = "SELECT group_id, user_id, role, muted_until FROM group_member WHERE ";
    Shapes::new(before, "(group_id=? AND user_id=?)", " OR ", "")
});
static BLOCKS: LazyLock<Shapes> = LazyLock::new(|| {
    let before = "SELECT user_id, blocked_id FROM user_block WHERE ";
    Shapes::new(before, "(user_id=? AND blocked_id=?)", " OR ", "")
});

/// Answers `questions`, in their order. The transaction has locked the conversations.
///
/// # Errors
/// As the database says.
pub async fn read(tx: &mut Tx, questions: &[Question<'_>]) -> sqlx::Result<Vec<Senders>> {
    let blocks = blocks(tx, questions).await?;
    let mut groups = groups(tx, questions).await?;
    let (mut whole, mut some) = (Vec::new(), Vec::new());
    for question in questions {
        let key = question.conversation.key();
        match groups.get_mut(key) {
            Some(group) if group.is_large => {
                let asked = question.senders.iter();
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
        let sender = Sender { role: Role::from_stored(row.try_get(2)?), muted_until: row.try_get(3)? };
        if let Some(group) = groups.get_mut(group) {
            group.members.insert(user, Some(sender));
        }
    }
    let answers = questions.iter().map(|question| match question.conversation.kind() {
        Kind::Private(lo, hi) => {
            let is_blocked = |user: &&str| blocks.contains(&(if *user == lo { hi } else { lo }, *user));
            let blocked = [lo, hi].into_iter().filter(is_blocked);
            Senders::Pair { blocked: blocked.filter_map(|user| UserId::parse(user).ok()).collect() }
        }
        Kind::Group => groups.remove(question.conversation.key()).map_or(Senders::NoGroup, Senders::Group),
    });
    Ok(answers.collect())
}

/// The groups among `questions` that there are, without their members.
async fn groups<'a>(
    tx: &mut Tx,
    questions: &[Question<'a>],
) -> sqlx::Result<AHashMap<&'a str, GroupSenders>> {
    let asked = questions.iter().map(|question| question.conversation);
    let keys: Vec<[&str; 1]> = asked.filter(|c| c.kind() == Kind::Group).map(|c| [c.key()]).collect();
    let all: AHashSet<&str> = keys.iter().map(|[key]| *key).collect();
    let mut groups = AHashMap::with_capacity(keys.len());
    for row in GROUPS.select(tx, None, &keys).await? {
        let group: &str = row.try_get(0)?;
        if let Some(key) = all.get(group) {
            let members = AHashMap::new();
            let found = GroupSenders { is_muted: row.try_get(1)?, is_large: row.try_get(2)?, members };
            groups.insert(*key, found);
        }
    }
    Ok(groups)
}

/// Who has blocked whom, within the private conversations among `questions`.
async fn blocks<'a>(tx: &mut Tx, questions: &[Question<'a>]) -> sqlx::Result<AHashSet<(&'a str, &'a str)>> {
    let mut pairs = Vec::new();
    for question in questions {
        if let Kind::Private(lo, hi) = question.conversation.kind() {
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
