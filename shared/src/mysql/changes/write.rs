//! What a commit writes, after it has inserted the rows of the entries.

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;

use super::super::multi_row::MultiRow;
use super::super::{Tx, files};
use super::values::{AddedReaction, ChangeWrites, EVERYONE};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};
use crate::message::{Mentions, Numbered, ReactionSummary, SHOWN_USERS_MAX, Stored};

static ADD: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "INSERT INTO message_reaction (conversation_id, seq, reaction, user_id, react_seq, react_time) VALUES ";
    MultiRow::new(before, "(?,?,?,?,?,?)", ",", "")
});
static REMOVE: LazyLock<MultiRow> = LazyLock::new(|| {
    let row = "(conversation_id=? AND seq=? AND reaction=? AND user_id=?)";
    MultiRow::new("DELETE FROM message_reaction WHERE ", row, " OR ", "")
});
static SUMMARIZE: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "INSERT INTO reaction_summary (conversation_id, seq, reaction, total, first_users) VALUES ";
    let after = " ON DUPLICATE KEY UPDATE total = VALUES(total), first_users = VALUES(first_users)";
    MultiRow::new(before, "(?,?,?,?,?)", ",", after)
});
static MENTION: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "INSERT INTO message_mention (conversation_id, user_id, seq) VALUES ";
    MultiRow::new(before, "(?,?,?)", ",", " ON DUPLICATE KEY UPDATE seq = VALUES(seq)")
});
static UNCHANGED: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "INSERT INTO unchanged_entry \
                  (conversation_id, sender_id, msg_id, seq, msg_type, content, extra, settled_at) VALUES ";
    MultiRow::new(
        before,
        "(?,?,?,?,?,?,?,?)",
        ",",
        " ON DUPLICATE KEY UPDATE settled_at = VALUES(settled_at)",
    )
});

/// Writes what the change entries of a locked conversation change.
///
/// # Errors
/// The database's.
pub async fn write(tx: &mut Tx, conversation: &Conversation, writes: &ChangeWrites) -> sqlx::Result<()> {
    for stored in &writes.rewritten {
        rewrite(tx, stored).await?;
    }
    // First what is taken back: what was stored may have been taken back and done again by the same batch.
    remove(tx, conversation, &writes.removed).await?;
    add(tx, conversation, &writes.added).await?;
    summarize(tx, conversation, &writes.summaries).await?;
    for target in &writes.unpinned {
        execute(
            tx,
            "DELETE FROM message_pin WHERE conversation_id = ? AND seq = ?",
            conversation,
            &[target.0],
        )
        .await?;
    }
    for (target, pin) in &writes.pinned {
        execute(
            tx,
            "INSERT INTO message_pin (conversation_id, seq, pin_seq) VALUES (?, ?, ?)",
            conversation,
            &[target.0, pin.0],
        )
        .await?;
    }
    for (target, edit) in &writes.edits {
        execute(
            tx,
            "INSERT INTO message_edit (conversation_id, seq, edit_seq) VALUES (?, ?, ?)",
            conversation,
            &[target.0, edit.0],
        )
        .await?;
    }
    for (seq, mentions) in &writes.mentions {
        mention(tx, conversation, *seq, mentions).await?;
    }
    for (seq, file_ids) in &writes.attachments {
        files::attach(tx, conversation, *seq, file_ids).await?;
    }
    for target in &writes.recalled {
        recall(tx, conversation, *target).await?;
    }
    Ok(())
}

async fn execute(
    tx: &mut Tx,
    statement: &'static str,
    conversation: &Conversation,
    numbers: &[u64],
) -> sqlx::Result<()> {
    let query = sqlx::query(statement).bind(conversation.key());
    numbers.iter().fold(query, |query, number| query.bind(*number)).execute(&mut *tx).await.map(drop)
}

/// One statement each: such changes are rare, or several of one batch concern the same message; and an UPDATE with OR may
/// scan the table.
async fn rewrite(tx: &mut Tx, stored: &Stored) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE timeline_message SET content = ?, extra = ?, is_recalled = ? WHERE conversation_id = ? AND seq = ?",
    )
    .bind(stored.kind.content())
    .bind(stored.extra())
    .bind(stored.is_recalled)
    .bind(stored.conversation.key())
    .bind(stored.seq.0)
    .execute(&mut *tx)
    .await
    .map(drop)
}

/// Removes what belongs to a message that was recalled: its reactions, pin, mentions and files, and the contents of its edits.
async fn recall(tx: &mut Tx, conversation: &Conversation, target: Seq) -> sqlx::Result<()> {
    for statement in [
        "DELETE FROM message_reaction WHERE conversation_id = ? AND seq = ?",
        "DELETE FROM reaction_summary WHERE conversation_id = ? AND seq = ?",
        "DELETE FROM message_pin WHERE conversation_id = ? AND seq = ?",
        "DELETE FROM message_mention WHERE conversation_id = ? AND seq = ?",
    ] {
        execute(tx, statement, conversation, &[target.0]).await?;
    }
    files::detach(tx, conversation, target).await?;
    // A JOIN: for an IN with a subquery, MariaDB would read the whole timeline.
    sqlx::query(
        "UPDATE message_edit e JOIN timeline_message t ON t.conversation_id = e.conversation_id AND t.seq = e.edit_seq \
         SET t.content = '', t.extra = ?, t.is_recalled = TRUE WHERE e.conversation_id = ? AND e.seq = ?",
    )
    .bind(Stored::blank_edit(target))
    .bind(conversation.key())
    .bind(target.0)
    .execute(&mut *tx)
    .await
    .map(drop)
}

async fn add(tx: &mut Tx, conversation: &Conversation, added: &[AddedReaction]) -> sqlx::Result<()> {
    for (range, text) in ADD.exact(added.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for one in &added[range] {
            query = query.bind(conversation.key()).bind(one.target.0).bind(one.reaction.as_str());
            query = query.bind(one.user.as_str()).bind(one.seq.0).bind(one.time_ms);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

async fn remove(
    tx: &mut Tx,
    conversation: &Conversation,
    removed: &[(Seq, String, UserId)],
) -> sqlx::Result<()> {
    for (range, text) in REMOVE.exact(removed.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (target, reaction, user) in &removed[range] {
            query = query.bind(conversation.key()).bind(target.0).bind(reaction.as_str()).bind(user.as_str());
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

async fn summarize(
    tx: &mut Tx,
    conversation: &Conversation,
    summaries: &[(Seq, ReactionSummary)],
) -> sqlx::Result<()> {
    let (gone, kept): (Vec<_>, Vec<_>) = summaries.iter().partition(|(_, summary)| summary.total == 0);
    for (target, summary) in gone {
        sqlx::query("DELETE FROM reaction_summary WHERE conversation_id = ? AND seq = ? AND reaction = ?")
            .bind(conversation.key())
            .bind(target.0)
            .bind(summary.reaction.as_str())
            .execute(&mut *tx)
            .await?;
    }
    for (range, text) in SUMMARIZE.exact(kept.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (target, summary) in &kept[range] {
            let first = &summary.first[..summary.first.len().min(SHOWN_USERS_MAX)];
            // Ids and numbers only: serialization cannot fail.
            let first = serde_json::to_string(first).unwrap_or_default();
            query = query.bind(conversation.key()).bind(target.0).bind(summary.reaction.as_str());
            query = query.bind(summary.total).bind(first);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

async fn mention(
    tx: &mut Tx,
    conversation: &Conversation,
    seq: Seq,
    mentions: &Mentions,
) -> sqlx::Result<()> {
    execute(tx, "DELETE FROM message_mention WHERE conversation_id = ? AND seq = ?", conversation, &[seq.0])
        .await?;
    let everyone = [EVERYONE];
    let users: Vec<&str> = match mentions {
        Mentions::Everyone => everyone.to_vec(),
        Mentions::Users(users) => users.iter().map(UserId::as_str).collect(),
    };
    for (range, text) in MENTION.exact(users.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for user in &users[range] {
            query = query.bind(conversation.key()).bind(*user).bind(seq.0);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

/// Records entries that changed nothing, so that one that is delivered again is known.
///
/// # Errors
/// The database's.
pub async fn insert_unchanged(tx: &mut Tx, entries: &[&Numbered]) -> sqlx::Result<()> {
    let now = unix_millis();
    for (range, text) in UNCHANGED.exact(entries.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for entry in &entries[range] {
            query =
                query.bind(entry.conversation.key()).bind(entry.sender.as_str()).bind(entry.msg_id.as_str());
            query = query.bind(entry.seq.0).bind(entry.kind.msg_type()).bind(entry.kind.content());
            query = query.bind(entry.message.extra()).bind(now);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}
