//! Who may be notified of the messages of a conversation: members with a subscription.

use std::sync::LazyLock;

use ahash::AHashSet;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::conversation::{Conversation, Kind};
use crate::ids::{Seq, UserId};
use crate::mysql::Pool;
use crate::mysql::multi_row::MultiRow;

/// A user who takes notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The user.
    pub user: UserId,
    /// Nothing at or below is unread.
    pub read: Seq,
    /// The end of the user's mute of the conversation, in milliseconds since 1970; 0 if it is not muted, -1 for ever.
    pub muted_until: i64,
}

/// The members of `group` who have subscriptions. The engine begins with the members or with the subscriptions, whichever are
/// fewer.
///
/// # Errors
/// The database's.
pub async fn of_group(pool: &Pool, group: &Conversation) -> sqlx::Result<Vec<Candidate>> {
    let rows = sqlx::query(
        "SELECT m.user_id, CAST(GREATEST(m.join_seq, m.floor_seq, COALESCE(s.last_ack_seq, 0), COALESCE(s.cleared_seq, 0)) \
         AS UNSIGNED), COALESCE(s.muted_until, 0) FROM group_member m \
         LEFT JOIN user_conversation_state s ON s.user_id = m.user_id AND s.conversation_id = m.group_id \
         WHERE m.group_id = ? AND m.user_id IN (SELECT p.user_id FROM push_subscription p)",
    )
    .bind(group.key())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| candidate(row, 0)).collect()
}

fn candidate(row: &MySqlRow, first: usize) -> sqlx::Result<Candidate> {
    Ok(Candidate {
        user: UserId::from_stored(row.try_get(first)?),
        read: Seq(row.try_get(first + 1)?),
        muted_until: row.try_get(first + 2)?,
    })
}

static WITH_SUBSCRIPTION: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("SELECT DISTINCT user_id FROM push_subscription WHERE user_id IN (", "?", ",", ")")
});

static STATES: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, user_id, CAST(GREATEST(last_ack_seq, COALESCE(cleared_seq, 0)) AS UNSIGNED), muted_until \
         FROM user_conversation_state WHERE ",
        "(user_id = ? AND conversation_id = ?)",
        " OR ",
        "",
    )
});

/// The users of private chats who have subscriptions, each with the chat.
///
/// # Errors
/// The database's.
pub async fn of_private_chats<'c>(
    pool: &Pool,
    chats: &[&'c Conversation],
) -> sqlx::Result<Vec<(&'c Conversation, Candidate)>> {
    let users_of = |chat: &'c Conversation| match chat.kind() {
        Kind::Private(lo, hi) if lo != hi => vec![(chat, lo), (chat, hi)],
        // Notes of a user to itself come from nobody else.
        Kind::Private(..) | Kind::Group => Vec::new(),
    };
    let mut places: Vec<(&Conversation, &str)> = chats.iter().copied().flat_map(users_of).collect();
    let mut users: Vec<[&str; 1]> = places.iter().map(|(_, user)| [*user]).collect();
    users.sort_unstable();
    users.dedup();
    let rows = WITH_SUBSCRIPTION.select_from(pool, None, &users).await?;
    let subscribed = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<AHashSet<&str>>>()?;
    places.retain(|(_, user)| subscribed.contains(user));
    let mut found: Vec<(&Conversation, Candidate)> = places
        .iter()
        .map(|(chat, user)| {
            (*chat, Candidate { user: UserId::from_stored(user), read: Seq::ZERO, muted_until: 0 })
        })
        .collect();
    for (range, length, text) in STATES.padded(places.len()) {
        let asked = &places[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (chat, user) in asked.iter().chain(asked.last().into_iter().cycle()).take(length) {
            query = query.bind(*user).bind(chat.key());
        }
        for row in query.fetch_all(pool).await? {
            let (key, state): (&str, Candidate) = (row.try_get(0)?, candidate(&row, 1)?);
            let same = |(chat, known): &&mut (&Conversation, Candidate)| {
                chat.key() == key && known.user == state.user
            };
            if let Some((_, known)) = found.iter_mut().find(same) {
                *known = state;
            }
        }
    }
    Ok(found)
}
