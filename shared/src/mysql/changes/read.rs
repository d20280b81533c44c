//! What a commit reads.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::super::multi_row::MultiRow;
use super::super::{Tx, timeline};
use super::values::{ChangeFacts, ChangeQuery, ReactionQuery};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::message::{FirstUser, ReactionSummary, SHOWN_USERS_MAX};

static SUMMARIES: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "SELECT seq, reaction, total, first_users FROM reaction_summary WHERE ";
    MultiRow::new(before, "(conversation_id=? AND seq=?)", " OR ", "")
});
// OR of equalities instead of a row-value IN: both engines read it as one range each on the key.
static STANDING: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "SELECT seq, reaction, user_id FROM message_reaction WHERE ";
    MultiRow::new(before, "(conversation_id=? AND seq=? AND reaction=? AND user_id=?)", " OR ", "")
});

/// What is stored about `query`.
///
/// # Errors
/// The database's.
pub async fn read(tx: &mut Tx, query: &ChangeQuery<'_>) -> sqlx::Result<ChangeFacts> {
    let conversation = query.conversation;
    let mut facts = ChangeFacts::default();
    let targets: Vec<Seq> = query.targets.iter().copied().collect();
    for stored in timeline::find_targets(tx, conversation, &targets).await? {
        facts.targets.insert(stored.seq, stored);
    }
    if !query.reactions.is_empty() {
        read_reactions(tx, conversation, &query.reactions, &mut facts).await?;
    }
    if query.pins {
        let rows = sqlx::query("SELECT seq FROM message_pin WHERE conversation_id = ?");
        for row in rows.bind(conversation.key()).fetch_all(&mut *tx).await? {
            facts.pins.insert(Seq(row.try_get(0)?));
        }
    }
    Ok(facts)
}

async fn read_reactions(
    tx: &mut Tx,
    conversation: &Conversation,
    asked: &[ReactionQuery<'_>],
    facts: &mut ChangeFacts,
) -> sqlx::Result<()> {
    let mut targets: Vec<Seq> = asked.iter().map(|one| one.target).collect();
    targets.sort_unstable();
    targets.dedup();
    for (range, length, text) in SUMMARIES.padded(targets.len()) {
        let targets = &targets[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for target in targets.iter().chain(targets.last().into_iter().cycle()).take(length) {
            query = query.bind(conversation.key()).bind(target.0);
        }
        for row in query.fetch_all(&mut *tx).await? {
            let (target, summary) = summary(&row)?;
            facts.reactions.entry(target).or_default().push(summary);
        }
    }
    for (range, length, text) in STANDING.padded(asked.len()) {
        let asked = &asked[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for one in asked.iter().chain(asked.last().into_iter().cycle()).take(length) {
            query =
                query.bind(conversation.key()).bind(one.target.0).bind(one.reaction).bind(one.user.as_str());
        }
        for row in query.fetch_all(&mut *tx).await? {
            let user = UserId::from_stored(row.try_get(2)?);
            facts.standing.insert((Seq(row.try_get(0)?), row.try_get(1)?, user));
        }
    }
    read_more_users(tx, conversation, asked, facts).await
}

/// Reads as many first users of each reaction that is removed as there may be shown afterwards.
async fn read_more_users(
    tx: &mut Tx,
    conversation: &Conversation,
    asked: &[ReactionQuery<'_>],
    facts: &mut ChangeFacts,
) -> sqlx::Result<()> {
    let mut removals: BTreeMap<(Seq, &str), usize> = BTreeMap::new();
    for one in asked.iter().filter(|one| one.removes) {
        *removals.entry((one.target, one.reaction)).or_default() += 1;
    }
    for ((target, reaction), removals) in removals {
        let summary = facts.reactions.get_mut(&target);
        let Some(summary) = summary.and_then(|all| all.iter_mut().find(|one| one.reaction == reaction))
        else {
            continue;
        };
        if summary.total as usize <= summary.first.len() {
            continue;
        }
        let rows = sqlx::query(
            "SELECT user_id, react_seq FROM message_reaction \
             WHERE conversation_id = ? AND seq = ? AND reaction = ? ORDER BY react_seq LIMIT ?",
        );
        let limit = u32::try_from(SHOWN_USERS_MAX + removals).unwrap_or(u32::MAX);
        let rows = rows.bind(conversation.key()).bind(target.0).bind(reaction).bind(limit);
        let rows = rows.fetch_all(&mut *tx).await?;
        let first =
            |row: &MySqlRow| Ok(FirstUser(UserId::from_stored(row.try_get(0)?), Seq(row.try_get(1)?)));
        summary.first = rows.iter().map(first).collect::<sqlx::Result<_>>()?;
    }
    Ok(())
}

/// Reads a row of `seq`, `reaction`, `total`, `first_users`.
pub(super) fn summary(row: &MySqlRow) -> sqlx::Result<(Seq, ReactionSummary)> {
    let first = serde_json::from_str(row.try_get(3)?).unwrap_or_else(|error| {
        tracing::error!(%error, "A stored summary of reactions is unreadable; its users are not shown");
        Vec::new()
    });
    let summary = ReactionSummary { reaction: row.try_get(1)?, total: row.try_get(2)?, first };
    Ok((Seq(row.try_get(0)?), summary))
}
