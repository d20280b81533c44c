//! `imctl dead-letters`: messages that could not be stored.

use std::io::Write as _;

use serde::Serialize;
use shared::envelope;
use shared::ids::unix_millis;
use shared::shard::ShardLayout;
use worker::intake::dead_letter_queue::{DeadLetter, DeadLetterQueue};

use crate::arguments::{DeadLettersCommand, Most, Selection};
use crate::context::Context;
use crate::output::{Ending, Output};
use crate::prompt::confirm;
use crate::text::{count, duration, fields, or_dash, printable, table, time};

/// Bytes of a body that are shown if it cannot be decoded.
const SHOWN_BYTES_MAX: usize = 256;

/// One dead letter in a list.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    /// When it was moved to the queue.
    time_ms: Option<i64>,
    /// The shard from whose queue it came.
    shard: Option<u32>,
    /// 0 if the body cannot be decoded.
    messages: usize,
    bytes: usize,
    reason: String,
}

impl Listed {
    fn of(letter: &DeadLetter) -> Self {
        Self {
            id: letter.id.clone(),
            time_ms: letter.time_ms,
            shard: letter.shard,
            messages: letter.messages(),
            bytes: letter.body.len(),
            reason: letter.reason.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct List {
    dead_letters: Vec<Listed>,
}

/// One message of a dead letter, contents included: an operator asked for exactly this one.
#[derive(Debug, Serialize)]
struct Message {
    conversation: String,
    seq: u64,
    sender: String,
    msg_id: String,
    msg_type: u32,
    content: String,
    send_time_ms: i64,
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    /// The shard that the gateway meant.
    meant_for_shard: Option<u32>,
    contents: Vec<Message>,
    /// Why messages of the body, or the body, cannot be decoded.
    errors: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Done {
    /// `retried` or `dropped`.
    action: &'static str,
    ids: Vec<String>,
    /// Dead letters that stay in the queue.
    left: usize,
}

/// What is done to selected dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Retry,
    Drop,
}

/// Runs one of the commands.
pub(crate) async fn run(
    context: &Context,
    command: DeadLettersCommand,
    output: Output,
) -> anyhow::Result<Ending> {
    let (DeadLettersCommand::List(Most { most })
    | DeadLettersCommand::Show { most: Most { most }, .. }
    | DeadLettersCommand::Retry(Selection { most: Most { most }, .. })
    | DeadLettersCommand::Drop(Selection { most: Most { most }, .. })) = command;
    let shards = if matches!(command, DeadLettersCommand::Retry(_)) {
        // With another number of shards than the deployment's, messages would go to the wrong queues.
        let state = context.shard_state(&context.mysql().await?).await?;
        anyhow::ensure!(
            state.change.is_none(),
            "the number of shards is being changed ({state}): retry when `imctl status` shows no change"
        );
        state.current
    } else {
        // The name of the dead-letter queue does not depend on it.
        context.config().shards.checked()?.unwrap_or(ShardLayout::DEFAULT)
    };
    let queue = DeadLetterQueue::open(&context.config().amqp, context.topology(shards)).await?;
    let letters = queue.take(most).await?;
    let (remaining, result) = match execute(command, &queue, letters, output).await {
        Ok((remaining, ending)) => (remaining, Ok(ending)),
        // Closing the connection returns all that were not acknowledged.
        Err(error) => (Vec::new(), Err(error)),
    };
    queue.close(&remaining).await?;
    result
}

/// Returns the dead letters that remain in the queue.
async fn execute(
    command: DeadLettersCommand,
    queue: &DeadLetterQueue,
    letters: Vec<DeadLetter>,
    output: Output,
) -> anyhow::Result<(Vec<DeadLetter>, Ending)> {
    match command {
        DeadLettersCommand::List(_) => {
            let list = List { dead_letters: letters.iter().map(Listed::of).collect() };
            output.show(&list, list_text)?;
            Ok((letters, Ending::Good))
        }
        DeadLettersCommand::Show { id, .. } => {
            ensure_all_exist(std::slice::from_ref(&id), &letters)?;
            if let Some(letter) = letters.iter().find(|letter| letter.id == id) {
                output.show(&shown(letter), shown_text)?;
            }
            Ok((letters, Ending::Good))
        }
        DeadLettersCommand::Retry(selection) => {
            change(Action::Retry, selection, queue, letters, output).await
        }
        DeadLettersCommand::Drop(selection) => change(Action::Drop, selection, queue, letters, output).await,
    }
}

async fn change(
    action: Action,
    Selection { ids, all, yes, .. }: Selection,
    queue: &DeadLetterQueue,
    letters: Vec<DeadLetter>,
    output: Output,
) -> anyhow::Result<(Vec<DeadLetter>, Ending)> {
    ensure_all_exist(&ids, &letters)?;
    let (selected, remaining): (Vec<DeadLetter>, Vec<DeadLetter>) =
        letters.into_iter().partition(|letter| all || ids.contains(&letter.id));
    let number = count(selected.len(), "dead letter", "dead letters");
    match action {
        Action::Retry if !selected.is_empty() => {
            confirm(&format!("Publish {number} for the workers again?"), yes)?
        }
        Action::Drop if !selected.is_empty() => confirm(&format!("Remove {number} for good?"), yes)?,
        Action::Retry | Action::Drop => {}
    }
    for letter in &selected {
        match action {
            Action::Retry => queue.replay(letter).await?,
            Action::Drop => queue.discard(letter).await?,
        }
        // At once: if the command is killed, these lines say what is done.
        let mut errors = std::io::stderr().lock();
        writeln!(errors, "{} {}", if action == Action::Retry { "retried" } else { "dropped" }, letter.id)?;
    }
    let done = Done {
        action: if action == Action::Retry { "retried" } else { "dropped" },
        ids: selected.into_iter().map(|letter| letter.id).collect(),
        left: remaining.len(),
    };
    output.show(&done, |done| format!("{} {}, {} left", done.ids.len(), done.action, done.left))?;
    Ok((remaining, Ending::Good))
}

fn ensure_all_exist(ids: &[String], letters: &[DeadLetter]) -> anyhow::Result<()> {
    for id in ids {
        anyhow::ensure!(
            letters.iter().any(|letter| letter.id == *id),
            "there is no dead letter {id}: `imctl dead-letters list` prints their ids"
        );
    }
    Ok(())
}

fn list_text(list: &List) -> String {
    let rows = list.dead_letters.iter().map(|letter| {
        vec![
            letter.id.clone(),
            or_dash(letter.time_ms.map(|time| duration(unix_millis() - time))),
            or_dash(letter.shard),
            letter.messages.to_string(),
            letter.bytes.to_string(),
            letter.reason.clone(),
        ]
    });
    let table = table(&["id", "age", "shard", "messages", "bytes", "reason"], rows);
    format!("{table}\n{}", count(list.dead_letters.len(), "dead letter", "dead letters"))
        .trim_start()
        .to_owned()
}

fn shown(letter: &DeadLetter) -> Shown {
    let mut shown =
        Shown { listed: Listed::of(letter), meant_for_shard: None, contents: Vec::new(), errors: Vec::new() };
    match envelope::decode_batch(&letter.body) {
        Ok(batch) => {
            shown.meant_for_shard = Some(batch.shard);
            shown.contents.extend(batch.messages.iter().map(|numbered| Message {
                conversation: numbered.message.conversation.key().to_owned(),
                seq: numbered.seq.0,
                sender: numbered.message.sender.as_str().to_owned(),
                msg_id: numbered.message.msg_id.as_str().to_owned(),
                msg_type: numbered.message.kind.msg_type(),
                content: numbered.message.kind.content().into_owned(),
                send_time_ms: numbered.message.send_time_ms,
            }));
            let refused =
                batch.refused.iter().map(|(error, _)| format!("a message cannot be stored: {error}"));
            shown.errors.extend(refused);
        }
        Err(error) => {
            let begin = &letter.body[..letter.body.len().min(SHOWN_BYTES_MAX)];
            shown.errors.push(format!("{error}; the body begins with {}", begin.escape_ascii()));
        }
    }
    shown
}

fn shown_text(shown: &Shown) -> String {
    let Shown { listed, meant_for_shard, contents, errors } = shown;
    let mut parts = vec![fields(&[
        ("id", listed.id.clone()),
        ("since", or_dash(listed.time_ms.map(time))),
        ("from the queue of shard", or_dash(listed.shard)),
        ("meant for shard", or_dash(*meant_for_shard)),
        ("bytes", listed.bytes.to_string()),
        ("reason", listed.reason.clone()),
    ])];
    for message in contents {
        parts.push(fields(&[
            ("conversation", message.conversation.clone()),
            ("seq", message.seq.to_string()),
            ("sender", message.sender.clone()),
            ("msg_id", message.msg_id.clone()),
            ("msg_type", message.msg_type.to_string()),
            ("sent", time(message.send_time_ms)),
            ("content", message.content.clone()),
        ]));
    }
    parts.extend(errors.iter().map(|error| printable(error)));
    parts.join("\n\n")
}
