//! `imctl conversation verify`: the tables of MySQL against each other and against Redis.

use futures_util::TryStreamExt as _;
use shared::ids::Seq;
use shared::mysql::inspection;
use shared::redis::inbox::Inboxes;
use shared::redis::inspection::Inspection;

use super::findings::Report;
use super::of_one::Stores;
use crate::context::Context;
use crate::named;
use crate::output::{Ending, Output, Progress};
use crate::text::{count, printable};

/// Conversations that are listed in one step.
const STEP: u32 = 500;
/// Gaps that are printed for a person.
const SHOWN_GAPS: usize = 20;

/// Verifies one conversation, or without an id all of them.
pub(crate) async fn run(context: &Context, id: Option<&str>, output: Output) -> anyhow::Result<Ending> {
    let redis = context.redis().await?;
    let stores = Stores {
        pool: context.mysql().await?,
        inboxes: Inboxes::new(redis.clone(), context.config().inbox.ttl_s),
        inspection: Inspection::new(redis),
    };
    let mut report = Report::default();
    if !inspection::has_unique_ids(&stores.pool).await? {
        let message =
            "the table timeline_message lacks its unique key one_per_id: a message may be stored twice";
        report.find("no_unique_key", "", message.to_owned());
    }
    match id {
        Some(id) => one(&stores, id, &mut report).await?,
        None => all(&stores, &mut report).await?,
    }
    output.show(&report, text)?;
    Ok(Ending::of(&report.findings))
}

async fn one(stores: &Stores, id: &str, report: &mut Report) -> anyhow::Result<()> {
    let conversation = named::conversation(id)?;
    match inspection::conversation(&stores.pool, &conversation).await? {
        Some(row) => stores.verify(&row, report).await,
        None => {
            let key = conversation.key();
            let known = inspection::unknown_keys(&stores.pool, &[key.to_owned()]).await?.is_empty();
            let messages = inspection::seqs_after(&stores.pool, key, Seq::ZERO, 1).await?;
            anyhow::ensure!(known || !messages.is_empty(), "there is no conversation {key}");
            if !messages.is_empty() {
                orphan(key, report);
            }
            Ok(())
        }
    }
}

fn orphan(key: &str, report: &mut Report) {
    report.find("no_conversation", key, "it has messages, and no row in conversation".to_owned());
}

async fn all(stores: &Stores, report: &mut Report) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    let mut after = String::new();
    loop {
        let rows = inspection::conversations_after(&stores.pool, &after, STEP).await?;
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.key);
        for row in &rows {
            stores.verify(row, report).await?;
            progress.show(|| {
                let (conversations, findings) = (report.conversations, report.findings_total);
                format!("{conversations} conversations, {findings} findings; at {}", printable(&row.key))
            });
        }
    }
    orphans(stores, report, &mut progress).await?;
    unknown_in_inboxes(stores, report, &mut progress).await
}

/// Messages of conversations without a row.
async fn orphans(stores: &Stores, report: &mut Report, progress: &mut Progress) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let keys = inspection::keys_with_messages_after(&stores.pool, &after, STEP).await?;
        let Some(last) = keys.last().cloned() else { return Ok(()) };
        for key in inspection::without_row(&stores.pool, &keys).await? {
            orphan(&key, report);
        }
        progress.show(|| format!("messages without a conversation; at {}", printable(&last)));
        after = last;
    }
}

/// Entries of inboxes whose conversation no table knows.
async fn unknown_in_inboxes(
    stores: &Stores,
    report: &mut Report,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut inboxes = stores.inspection.inboxes();
    while let Some((user, keys)) = inboxes.try_next().await? {
        report.inboxes += 1;
        for key in inspection::unknown_keys(&stores.pool, &keys).await? {
            let message = format!("it is in the inbox of {user}, and in no table");
            report.find("inbox_without_conversation", &key, message);
        }
        progress.show(|| format!("{} inboxes, {} findings", report.inboxes, report.findings_total));
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report
        .findings
        .iter()
        .map(|found| {
            format!("{}: {}: {}", printable(&found.conversation), found.code, printable(&found.message))
        })
        .collect();
    for gap in report.gaps.iter().take(SHOWN_GAPS) {
        let (key, first, last) = (printable(&gap.conversation), gap.first, gap.last);
        lines.push(match first == last {
            true => format!("{key}: no message has number {first}; no fault"),
            false => format!("{key}: no message has numbers {first} to {last}; no fault"),
        });
    }
    if report.gaps_total > SHOWN_GAPS as u64 {
        lines.push(format!("{} gaps in total", report.gaps_total));
    }
    if report.counters_missing > 0 {
        let missing = report.counters_missing;
        lines.push(format!(
            "{missing} counters are not in Redis, and are set from MySQL with the next message; no fault"
        ));
    }
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    lines.push(format!(
        "{}, {}, {}: {}",
        count(number(report.conversations), "conversation", "conversations"),
        count(number(report.messages), "message", "messages"),
        count(number(report.inboxes), "inbox", "inboxes"),
        count(number(report.findings_total), "finding", "findings")
    ));
    lines.join("\n")
}
