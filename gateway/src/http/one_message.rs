//! `/api/conversations/{id}/messages/{seq}` and what belongs to single messages: their reactions, and the pins.

use serde::Serialize;
use shared::ids::Seq;
use shared::message::Stored;
use shared::mysql::changes::{self, Reacted};
use shared::mysql::timeline;

use super::answer::{Answer, json_text, rendered};
use super::call::Call;
use super::conversation_id::{conversation, reader};
use super::paging::limit;
use crate::features::Feature;
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;

fn seq(text: &str) -> Result<Seq, ApiError> {
    let seq = text.parse().ok().filter(|seq| (1..=Seq::MAX.0).contains(seq)).map(Seq);
    seq.ok_or_else(|| ApiError::malformed("the path must have the seq of a message"))
}

fn no_message() -> ApiError {
    ApiError::NotFound("there is no message with this seq that you may see".to_owned())
}

/// One message in its present state.
pub(super) async fn message(id: &str, number: &str, call: Call) -> Answer {
    let (conversation, seq) = (conversation(id, &call)?, seq(number)?);
    let render = |found: Option<Stored>| rendered(&MessageView::from(&found.ok_or_else(no_message)?));
    let read = async |pool, conversation, floor| match seq > floor {
        true => timeline::one(pool, conversation, seq).await,
        false => Ok(None),
    };
    Ok(json_text(call.deps.reads.messages(reader(&call)?, &conversation, read, render).await?))
}

#[derive(Serialize)]
struct Reactions {
    reactions: Vec<Reacted>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<Seq>,
}

/// All reactions to a message, in the order of reacting.
pub(super) async fn reactions(id: &str, number: &str, call: Call) -> Answer {
    call.deps.connections.settings.features.require(Feature::Reactions)?;
    let (conversation, seq, limit) = (conversation(id, &call)?, seq(number)?, limit(&call)?);
    let rule = "cursor must be the next_cursor of the page before";
    let cursor = Seq(call.parameter_as("cursor", rule)?.unwrap_or(0));
    let read = async |pool, conversation, floor| {
        if seq <= floor || timeline::facts(pool, conversation, seq).await?.is_none() {
            return Ok(None);
        }
        changes::reactions_after(pool, conversation, seq, cursor, u32::from(limit) + 1).await.map(Some)
    };
    let render = |found: Option<Vec<Reacted>>| {
        let mut reactions = found.ok_or_else(no_message)?;
        let has_more = reactions.len() > usize::from(limit);
        reactions.truncate(limit.into());
        let next_cursor = reactions.last().filter(|_| has_more).map(|last| last.react_seq);
        rendered(&Reactions { reactions, next_cursor })
    };
    Ok(json_text(call.deps.reads.messages(reader(&call)?, &conversation, read, render).await?))
}

#[derive(Serialize)]
struct Pins<'a> {
    messages: Vec<MessageView<'a>>,
}

/// The pinned messages, the newest pin first.
pub(super) async fn pins(id: &str, call: Call) -> Answer {
    call.deps.connections.settings.features.require(Feature::Pins)?;
    let conversation = conversation(id, &call)?;
    let render =
        |found: Vec<Stored>| rendered(&Pins { messages: found.iter().map(MessageView::from).collect() });
    Ok(json_text(call.deps.reads.messages(reader(&call)?, &conversation, changes::pins, render).await?))
}
