//! Runs the command.

use shared::ids::{MsgId, UserId};

use super::report::{Report, State};
use super::{find, gather, rules, view};
use crate::context::Context;
use crate::named;
use crate::output::{Ending, Output};

/// The message that is looked for, as it was given.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) msg_id: String,
    pub(crate) conversation: Option<String>,
    pub(crate) sender: Option<String>,
}

/// Traces all messages with the id.
pub(crate) async fn run(context: &Context, wanted: Wanted, output: Output) -> anyhow::Result<Ending> {
    let msg_id = MsgId::parse(&wanted.msg_id)?;
    let sender = wanted.sender.as_deref().map(UserId::parse).transpose()?;
    let stores = gather::Stores::connect(context).await?;
    let (candidates, searched) = match &wanted.conversation {
        Some(conversation) => {
            let conversation = named::conversation(conversation)?;
            let found = find::in_conversation(&stores, &conversation, &msg_id, sender.as_ref()).await?;
            (found, "the conversation")
        }
        None => find::everywhere(&stores, &msg_id, sender.as_ref()).await?,
    };
    let mut messages = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        messages.push(gather::trace(&stores, candidate, &msg_id).await?);
    }
    let report = Report {
        msg_id: wanted.msg_id,
        searched,
        unknown: if messages.is_empty() { rules::nothing(stores.sent_ttl_s()) } else { String::new() },
        messages,
    };
    output.show(&report, view::text)?;
    Ok(match &report.messages[..] {
        [] => Ending::Finding,
        messages
            if messages
                .iter()
                .any(|message| matches!(message.state, State::DeadLetter | State::NotStored)) =>
        {
            Ending::Finding
        }
        _ => Ending::Good,
    })
}
