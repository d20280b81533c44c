//! Finds the conversations and senders of a message id.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use shared::conversation::{Conversation, Kind};
use shared::ids::{MsgId, UserId};
use shared::mysql::{inspection, members};

use super::gather::{Candidate, Stores};
use crate::output::Progress;

/// Longest search of the keys of Redis.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Conversations, or members, of one step.
const STEP: u32 = 500;

/// The senders of the id in one conversation.
pub(super) async fn in_conversation(
    stores: &Stores<'_>,
    conversation: &Conversation,
    msg_id: &MsgId,
    sender: Option<&UserId>,
) -> anyhow::Result<Vec<Candidate>> {
    let mut senders = stored_senders(stores, conversation, msg_id).await?;
    let mut members = match sender {
        Some(sender) => vec![sender.clone()],
        None => first_members(stores, conversation).await?,
    };
    // Redis is asked by sender; of a large group the members are asked in steps.
    while let Some(last) = members.last().cloned() {
        for member in &members {
            if stores.inspection.remembered(conversation, member, msg_id).await?.is_some() {
                senders.insert(member.clone());
            }
        }
        let is_whole = sender.is_some() || conversation.kind() != Kind::Group;
        members =
            if is_whole { Vec::new() } else { members_after(stores, conversation, last.as_str()).await? };
    }
    let of_sender = |one: &UserId| sender.is_none_or(|sender| sender == one);
    let senders = senders.into_iter().filter(of_sender);
    Ok(senders.map(|sender| Candidate { conversation: conversation.clone(), sender }).collect())
}

async fn stored_senders(
    stores: &Stores<'_>,
    conversation: &Conversation,
    msg_id: &MsgId,
) -> anyhow::Result<BTreeSet<UserId>> {
    let stored = inspection::messages_with_id(&stores.pool, conversation.key(), msg_id.as_str()).await?;
    Ok(stored.iter().filter_map(|message| UserId::parse(&message.sender_id).ok()).collect())
}

async fn first_members(stores: &Stores<'_>, conversation: &Conversation) -> anyhow::Result<Vec<UserId>> {
    match conversation.kind() {
        Kind::Private(a, b) => Ok([a, b].map(UserId::parse).into_iter().flatten().collect()),
        Kind::Group => members_after(stores, conversation, "").await,
    }
}

async fn members_after(
    stores: &Stores<'_>,
    group: &Conversation,
    after: &str,
) -> anyhow::Result<Vec<UserId>> {
    let listed = members::list(&stores.pool, group, after, STEP).await?;
    Ok(listed.iter().filter_map(|member| UserId::parse(&member.user_id).ok()).collect())
}

/// The conversations and senders that Redis remembers for the id; if Redis remembers none, those in MySQL. Also says where
/// the id was looked for.
pub(super) async fn everywhere(
    stores: &Stores<'_>,
    msg_id: &MsgId,
    sender: Option<&UserId>,
) -> anyhow::Result<(Vec<Candidate>, &'static str)> {
    let mut progress = Progress::new();
    progress.show(|| "searching Redis".to_owned());
    let found = stores.inspection.senders_of(msg_id, Instant::now() + SEARCH_TIMEOUT).await?;
    let of_sender = |one: &UserId| sender.is_none_or(|sender| sender == one);
    let candidates = found.found.into_iter().filter(|(_, one)| of_sender(one));
    let candidates: Vec<Candidate> =
        candidates.map(|(conversation, sender)| Candidate { conversation, sender }).collect();
    if !candidates.is_empty() {
        return Ok((candidates, "Redis; older messages with the same id are found with --conversation"));
    }
    anyhow::ensure!(found.is_complete, "Redis has too many keys to search: give --conversation");
    let candidates = in_mysql(stores, msg_id, sender, &mut progress).await;
    Ok((candidates.context("searching MySQL; --conversation makes that unnecessary")?, "Redis and MySQL"))
}

async fn in_mysql(
    stores: &Stores<'_>,
    msg_id: &MsgId,
    sender: Option<&UserId>,
    progress: &mut Progress,
) -> anyhow::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let (mut after, mut searched) = (String::new(), 0);
    loop {
        let rows = inspection::conversations_after(&stores.pool, &after, STEP).await?;
        let Some(last) = rows.last() else { return Ok(candidates) };
        after.clone_from(&last.key);
        for row in rows.iter().filter(|row| row.last_seq.0 > 0) {
            let Ok(conversation) = Conversation::from_key(&row.key) else { continue };
            for found in stored_senders(stores, &conversation, msg_id).await? {
                if sender.is_none_or(|sender| *sender == found) {
                    candidates.push(Candidate { conversation: conversation.clone(), sender: found });
                }
            }
        }
        searched += rows.len();
        progress.show(|| format!("searching MySQL: {searched} conversations"));
    }
}
