//! Pages of 50 recent messages: everyone the same one, and everyone another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catalog::Scale;
use super::outcome::{Goal, Outcome};
use super::pages::page_end;
use super::run::{Load, joined, run_watched};
use super::sampler::Sampler;
use super::steady::{FIFTY_SENDERS, as_f64};
use super::storm::selects;
use testbed::client::{Client, Report, pull_frame};
use testbed::meter::{Used, per_1000, used};
use testbed::stack::System;

const GROUPS: usize = 200;
const MESSAGES_PER_GROUP: usize = 200;
const PAGE: usize = 50;
/// Unanswered pulls of one connection.
const WINDOW: usize = 8;
const SECONDS: f64 = 8.0;
const READERS: usize = 50;

/// Reads as fast as a window lets everyone.
pub(super) async fn pulls(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let (report, gateways) = (Arc::new(Report::default()), system.ws_urls());
    let sampler = Sampler::start("pulls", system, &report).await?;
    let messages = GROUPS * MESSAGES_PER_GROUP;
    let load = Load { groups: GROUPS, senders: 1, messages, window: 16, ..FIFTY_SENDERS };
    Box::pin(run_watched(&load, &gateways, "read", &report, Used::default)).await?;
    let seconds = SECONDS * scale.factor.min(1.0);
    let what = format!("pages of {PAGE} messages of 200 bytes, window {WINDOW}, for {seconds} s each");
    let mut outcome = Outcome { what, ..Outcome::default() };
    let newest = MESSAGES_PER_GROUP - PAGE;
    let same = |_: usize, _: usize| ("group_read.0".to_owned(), newest as u64);
    // No two that may wait at the same time are equal: those would be read once.
    let other = |n: usize, turn: usize| (format!("group_read.{n}"), ((n + turn) % newest) as u64);
    sampler.mark("the same page");
    let cached = read(system, READERS, seconds, same).await?;
    sampler.mark("different pages");
    let different = read(system, GROUPS, seconds, other).await?;
    for (name, goal, read) in [
        ("the newest page of one conversation", 30_000.0, cached),
        ("different pages of 200 conversations", 4_000.0 * 2.0, different),
    ] {
        outcome.figure(name, read.per_second, "pages/s", Some(Goal::AtLeast(goal)));
        outcome.figure("  SELECT statements for each page", read.selects_per_page, "", None);
        for (process, seconds) in read.costs {
            outcome.figure(&format!("  processor time for each: {process}"), seconds * 1000.0, "us", None);
        }
    }
    (outcome.samples, outcome.marks) = sampler.finish();
    Ok(outcome)
}

struct Read {
    per_second: f64,
    selects_per_page: f64,
    costs: std::collections::BTreeMap<String, f64>,
}

async fn read(
    system: &mut System,
    readers: usize,
    seconds: f64,
    page: impl Fn(usize, usize) -> (String, u64),
) -> anyhow::Result<Read> {
    let gateways = system.ws_urls();
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut reading = JoinSet::new();
    for n in 0..readers {
        let (conversation, _) = page(n, 0);
        let client = joined(&gateways[n % gateways.len()], &format!("reader.{n}"), &conversation).await?;
        let frame = |turn| pull_frame(&conversation, page(n, turn).1, PAGE, false);
        let frames = (0..2 * WINDOW).map(frame).collect();
        reading.spawn(pull(client, frames, Arc::clone(&done), Arc::clone(&stop)));
    }
    let mut mysql = connect(&system.urls.mysql).await?;
    let selects_before = selects(&mut mysql).await?;
    let (begun, before, pages_before) = (Instant::now(), used(system), done.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let pages = done.load(Ordering::Relaxed) - pages_before;
    let (elapsed, costs) = (begun.elapsed(), per_1000(&before, &used(system), pages));
    let selects_per_page = as_f64(selects(&mut mysql).await? - selects_before) / as_f64(pages.max(1));
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = reading.join_next().await {
        ended??;
    }
    Ok(Read { per_second: as_f64(pages) / elapsed.as_secs_f64(), selects_per_page, costs })
}

async fn connect(url: &str) -> anyhow::Result<sqlx::MySqlConnection> {
    use sqlx::ConnectOptions as _;
    let options: sqlx::mysql::MySqlConnectOptions = url.parse()?;
    Ok(options.disable_statement_logging().connect().await?)
}

async fn pull(
    mut client: Client,
    frames: Vec<String>,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
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
        page_end(&text)?;
        done.fetch_add(1, Ordering::Relaxed);
        if let Some(frame) = frames.next() {
            client.send(frame).await?;
        }
    }
    Ok(())
}
