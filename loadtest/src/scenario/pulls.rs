//! Pages of 50 recent messages: all readers pull the same page, then each another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::listeners::CONNECTING;
use super::load::{FIFTY_SENDERS, Load, Participants};
use super::outcome::{Goal, Outcome};
use super::pages::{PageReply, page_reply};
use super::run::run_as;
use super::sampler::Sampler;
use super::scale::Scale;
use super::steady::as_f64;
use super::target::{Target, selects};
use testbed::client::{Client, Report, Request, pull_frame};
use testbed::meter::{Used, per_1000};

const GROUPS: usize = 200;
const MESSAGES_PER_GROUP: usize = 200;
const PAGE: usize = 50;
/// Unanswered pulls of one connection.
const WINDOW: usize = 8;
const SECONDS: f64 = 8.0;
const READERS: usize = 50;

/// Reads as fast as the window allows.
pub(super) async fn pulls(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let (report, deployment) = (Arc::new(Report::default()), target.deployment().clone());
    let sampler = Sampler::start("pulls", target, &report).await?;
    let messages = GROUPS * MESSAGES_PER_GROUP;
    let load = Load { groups: GROUPS, senders: 1, messages, window: 16, ..FIFTY_SENDERS };
    let mut participants = Participants::new(&load, deployment.name("read"));
    let readers: Vec<String> = (0..GROUPS).map(|n| deployment.name(&format!("reader.{n}"))).collect();
    participants.guests = readers.iter().map(|reader| vec![reader.clone()]).enumerate().collect();
    participants.guests.insert(0, readers[..READERS].to_vec());
    let figures = Box::pin(run_as(&participants, &deployment, &report, Used::default)).await?;
    let seconds = SECONDS * scale.factor.min(1.0);
    let what = format!("pages of {PAGE} messages of 200 bytes, window {WINDOW}, for {seconds} s each");
    let mut outcome = Outcome { what, ..Outcome::default() };
    let newest = MESSAGES_PER_GROUP - PAGE;
    let same = |_: usize, _: usize| (participants.conversation(0), newest as u64);
    // No two pulls that may wait at the same time are equal: the gateway would read equal pages once.
    let other = |n: usize, turn: usize| (participants.conversation(n), ((n + turn) % newest) as u64);
    sampler.mark("the same page");
    let cached = read(target, &readers[..READERS], seconds, &report, same).await?;
    sampler.mark("different pages");
    let different = read(target, &readers, seconds, &report, other).await?;
    for (name, goal, read) in [
        ("the newest page of one conversation", 30_000.0, cached),
        ("different pages of 200 conversations", 4_000.0 * 2.0, different),
    ] {
        outcome.figure(name, read.per_second, "pages/s", Some(Goal::AtLeast(goal)));
        if let Some(selects) = read.selects_per_page {
            outcome.figure("  SELECT statements for each page", selects, "", None);
        }
        for (process, seconds) in read.costs {
            outcome.figure(&format!("  processor time for each: {process}"), seconds * 1000.0, "us", None);
        }
    }
    figures.add_to(&mut outcome);
    outcome.refusals = report.refusals.list();
    (outcome.samples, outcome.marks) = sampler.finish();
    Ok(outcome)
}

struct Read {
    per_second: f64,
    selects_per_page: Option<f64>,
    costs: BTreeMap<String, f64>,
}

async fn read(
    target: &mut Target,
    readers: &[String],
    seconds: f64,
    report: &Arc<Report>,
    page: impl Fn(usize, usize) -> (String, u64),
) -> anyhow::Result<Read> {
    let deployment = target.deployment().clone();
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut reading = JoinSet::new();
    // All connect before the first one reads: readers at full speed would slow down the other logins.
    let join = |(n, user): (usize, &String)| {
        let (user, (conversation, _)) = (user.clone(), page(n, 0));
        let deployment = deployment.clone();
        async move { anyhow::Ok((n, deployment.join(n, &user, &conversation).await?)) }
    };
    let joining: Vec<_> = readers.iter().enumerate().map(join).collect();
    let joining = futures_util::stream::iter(joining).buffer_unordered(CONNECTING);
    for (n, client) in joining.try_collect::<Vec<_>>().await? {
        let (conversation, _) = page(n, 0);
        let frame = |turn| pull_frame(&conversation, page(n, turn).1, PAGE, false);
        let frames = (0..2 * WINDOW).map(frame).collect();
        reading.spawn(pull(client, frames, Arc::clone(&done), Arc::clone(&stop), Arc::clone(report)));
    }
    let mut mysql = target.mysql().await?;
    let selects_before = selects(mysql.as_mut()).await?;
    let (begun, before, pages_before) = (Instant::now(), target.used(), done.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let pages = done.load(Ordering::Relaxed) - pages_before;
    let (elapsed, costs) = (begun.elapsed(), per_1000(&before, &target.used(), pages));
    let selects_after = selects(mysql.as_mut()).await?;
    let selects_per_page = selects_after
        .zip(selects_before)
        .map(|(after, before)| as_f64(after - before) / as_f64(pages.max(1)));
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = reading.join_next().await {
        ended??;
    }
    Ok(Read { per_second: as_f64(pages) / elapsed.as_secs_f64(), selects_per_page, costs })
}

async fn pull(
    mut client: Client,
    frames: Vec<String>,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    report: Arc<Report>,
) -> anyhow::Result<()> {
    let mut frames = frames.iter().cycle().cloned();
    for frame in frames.by_ref().take(WINDOW) {
        client.send(frame).await?;
    }
    while !stop.load(Ordering::Relaxed) {
        let text = client.next_text().await?;
        if !text.starts_with(r#"{"cmd":3,"#) {
            continue;
        }
        match page_reply(&text)? {
            PageReply::Page(_) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            PageReply::Refused { code, message, retry_after } => {
                report.refusals.count(Request::Read, code, &message);
                tokio::time::sleep(retry_after).await;
            }
        }
        if let Some(frame) = frames.next() {
            client.send(frame).await?;
        }
    }
    Ok(())
}
