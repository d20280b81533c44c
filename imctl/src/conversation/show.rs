//! `imctl conversation show`: what the stores know about a conversation, without contents.

use serde::Serialize;
use shared::conversation::{Conversation, Kind};
use shared::ids::Seq;
use shared::message::Stored;
use shared::mysql::timeline::{self, Direction};
use shared::mysql::{Pool, groups, inspection};
use shared::redis::inspection::{Counter, Inspection};

use crate::context::Context;
use crate::named;
use crate::output::{Ending, Output};
use crate::text::{fields, or_dash, table, time, yes};

/// Most owners that are listed; a group has one.
const OWNERS_MAX: u32 = 10;

/// What `imctl conversation show --json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    /// The conversation key.
    conversation: String,
    /// `private` or `group`.
    kind: &'static str,
    shard: u16,
    /// It has a row, a group or a counter.
    exists: bool,
    /// Of a private conversation its two users.
    users: Vec<String>,
    /// `None` for a private conversation, and for a group that does not exist.
    group: Option<Group>,
    last_seq: u64,
    access_version: u64,
    changed_at_ms: Option<i64>,
    /// The last number that Redis assigned; `None`: it has no counter, or an unusable one.
    counter: Option<u64>,
    newest: Vec<Message>,
}

#[derive(Debug, Serialize)]
struct Group {
    name: String,
    owners: Vec<String>,
    members: u32,
    is_open: bool,
    is_muted: bool,
    is_dismissed: bool,
    is_large: bool,
    created_at_ms: i64,
}

#[derive(Debug, Serialize)]
struct Message {
    seq: u64,
    sender: String,
    msg_id: String,
    msg_type: u32,
    sent_at_ms: i64,
    is_recalled: bool,
}

/// Shows the conversation with its newest messages.
pub(crate) async fn run(
    context: &Context,
    id: &str,
    messages: u32,
    output: Output,
) -> anyhow::Result<Ending> {
    let conversation = named::conversation(id)?;
    let pool = context.mysql().await?;
    let row = inspection::conversation(&pool, &conversation).await?;
    let counter = Inspection::new(context.redis().await?).counter(&conversation).await?;
    let group = group(&pool, &conversation).await?;
    let (kind, users) = match conversation.kind() {
        Kind::Private(a, b) => ("private", vec![a.to_owned(), b.to_owned()]),
        Kind::Group => ("group", Vec::new()),
    };
    let shown = Shown {
        conversation: conversation.key().to_owned(),
        kind,
        shard: context.shards(&pool).await?.of(&conversation).number(),
        exists: row.is_some() || group.is_some() || counter != Counter::Missing,
        users,
        group,
        last_seq: row.as_ref().map_or(0, |row| row.last_seq.0),
        access_version: row.as_ref().map_or(0, |row| row.access_version),
        changed_at_ms: row.map(|row| row.updated_at),
        counter: match counter {
            Counter::At(seq) => Some(seq.0),
            Counter::Missing | Counter::Unusable(_) => None,
        },
        newest: newest(&pool, &conversation, messages).await?,
    };
    output.show(&shown, text)?;
    Ok(if shown.exists { Ending::Good } else { Ending::Finding })
}

async fn group(pool: &Pool, conversation: &Conversation) -> anyhow::Result<Option<Group>> {
    let Some(found) = groups::find(pool, conversation).await? else { return Ok(None) };
    Ok(Some(Group {
        name: found.name,
        owners: inspection::owners(pool, conversation, OWNERS_MAX).await?,
        members: found.members,
        is_open: found.is_open,
        is_muted: found.is_muted,
        is_dismissed: found.is_dismissed,
        is_large: found.is_large,
        created_at_ms: found.created_at,
    }))
}

async fn newest(pool: &Pool, conversation: &Conversation, limit: u32) -> anyhow::Result<Vec<Message>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let stored = timeline::read(pool, conversation, Seq::ZERO, Direction::Backward, limit).await?;
    let message = |stored: Stored| Message {
        seq: stored.seq.0,
        sender: stored.message.sender.as_str().to_owned(),
        msg_id: stored.message.msg_id.as_str().to_owned(),
        msg_type: stored.message.kind.msg_type(),
        sent_at_ms: stored.message.send_time_ms,
        is_recalled: stored.is_recalled,
    };
    Ok(stored.into_iter().map(message).collect())
}

fn text(shown: &Shown) -> String {
    if !shown.exists {
        return format!("nothing is known about {}", shown.conversation);
    }
    let mut lines = vec![
        ("conversation", shown.conversation.clone()),
        ("kind", shown.kind.to_owned()),
        ("shard", shown.shard.to_string()),
    ];
    if !shown.users.is_empty() {
        lines.push(("users", shown.users.join(" ")));
    }
    if let Some(group) = &shown.group {
        lines.extend([
            ("name", group.name.clone()),
            ("owner", if group.owners.is_empty() { "-".to_owned() } else { group.owners.join(" ") }),
            ("members", group.members.to_string()),
            ("open", yes(group.is_open)),
            ("muted", yes(group.is_muted)),
            ("dismissed", yes(group.is_dismissed)),
            ("large", yes(group.is_large)),
            ("created", time(group.created_at_ms)),
        ]);
    }
    lines.extend([
        ("last sequence number", shown.last_seq.to_string()),
        ("counter in Redis", or_dash(shown.counter)),
        ("access version", shown.access_version.to_string()),
        ("changed", or_dash(shown.changed_at_ms.map(time))),
    ]);
    let rows = shown.newest.iter().map(|message| {
        let note = if message.is_recalled { "recalled" } else { "" };
        vec![
            message.seq.to_string(),
            message.sender.clone(),
            message.msg_id.clone(),
            message.msg_type.to_string(),
            time(message.sent_at_ms),
            note.to_owned(),
        ]
    });
    let messages = table(&["seq", "sender", "msg_id", "msg_type", "sent", ""], rows);
    format!("{}\n\n{messages}", fields(&lines)).trim_end().to_owned()
}
