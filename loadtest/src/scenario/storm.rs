//! Everyone comes back at once, each with a thousand messages to catch up with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catalog::Scale;
use super::outcome::{Goal, Latency, Outcome};
use super::pages::page_end;
use super::run::{Load, joined, run_watched};
use super::sampler::Sampler;
use super::steady::{FIFTY_SENDERS, as_f64};
use testbed::client::{Client, Report, pull_frame};
use testbed::meter::Used;
use testbed::stack::System;

const MEMBERS: usize = 5_000;
const BACKLOG: usize = 1_000;
/// Messages of one page: the protocol's most.
const PAGE: usize = 500;
/// Connections that are made at once while everyone joins.
const JOINING: usize = 64;
/// A storm that is not over by then never will be.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before someone who was not let in tries again.
const AGAIN: std::ops::Range<u64> = 50..300;

/// 5,000 members join and go; 1,000 messages are sent; all come back in the same moment.
pub(super) async fn storm(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let members = scale.of(MEMBERS);
    let (report, gateways) = (Arc::new(Report::default()), system.ws_urls());
    let sampler = Sampler::start("reconnect-storm", system, &report).await?;
    let group = "group_storm.0";
    let join = |n: usize| {
        let gateway = gateways[n % gateways.len()].clone();
        async move { joined(&gateway, &format!("away.{n}"), group).await.map(drop) }
    };
    let joining: Vec<_> = (0..members).map(join).collect();
    let mut joining = futures_util::stream::iter(joining).buffer_unordered(JOINING);
    while let Some(joined) = joining.next().await {
        joined?;
    }
    let load = Load { groups: 1, senders: 1, messages: BACKLOG, ..FIFTY_SENDERS };
    let sent = Box::pin(run_watched(&load, &gateways, "storm", &report, Used::default)).await?;
    let mut mysql =
        system.urls.mysql.parse::<MySqlConnectOptions>()?.disable_statement_logging().connect().await?;
    let (before, begun) = (selects(&mut mysql).await?, Instant::now());
    sampler.mark("all come back");
    let mut returning = JoinSet::new();
    for n in 0..members {
        let gateway = gateways[n % gateways.len()].clone();
        returning.spawn(come_back(gateway, n, group, begun));
    }
    let (mut current, mut pages, mut refused) = (Histogram::<u64>::new_with_max(600_000_000, 3)?, 0, 0);
    let mut clients = Vec::with_capacity(members);
    let all = async {
        while let Some(returned) = returning.join_next().await {
            let returned = returned??;
            current.saturating_record(u64::try_from(returned.after.as_micros())?);
            pages += returned.pages;
            refused += returned.refused;
            clients.push(returned.client);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("not all came back")??;
    sampler.mark("all are current");
    let reads = selects(&mut mysql).await? - before;
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, verdict: Some(sent.verdict), ..Outcome::default() };
    outcome.what =
        format!("{members} members of one group connect in the same moment and pull {BACKLOG} messages each");
    let current = Latency::of("until a member is current", &current);
    outcome.figure("all are current after", current.at(100.0) / 1000.0, "s", Some(Goal::Under(15.0)));
    outcome.figure("half are current after", current.at(50.0) / 1000.0, "s", None);
    outcome.figure("pages pulled", as_f64(pages), "", None);
    outcome.figure("SELECT statements that MySQL ran meanwhile", as_f64(reads), "", None);
    outcome.figure("connections refused and tried again", as_f64(refused), "times", None);
    outcome.latencies.push(current);
    Ok(outcome)
}

struct Returned {
    client: Client,
    after: Duration,
    pages: u64,
    refused: u64,
}

async fn come_back(gateway: String, n: usize, group: &str, begun: Instant) -> anyhow::Result<Returned> {
    let (returned, refused) = until_let_in(begun, PATIENCE, || catch_up(&gateway, n, group, begun)).await?;
    Ok(Returned { refused: returned.refused + refused, ..returned })
}

/// Tries again whenever it is sent away because too many came at once; gives up with the last error when `patience` is
/// over since `begun`. Returns how often that was, too.
pub(super) async fn until_let_in<T, F: Future<Output = anyhow::Result<T>>>(
    begun: Instant,
    patience: Duration,
    attempt: impl Fn() -> F,
) -> anyhow::Result<(T, u64)> {
    let mut refused = 0;
    loop {
        match attempt().await {
            Ok(done) => return Ok((done, refused)),
            Err(error) if begun.elapsed() > patience => return Err(error),
            Err(_) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(rand::random_range(AGAIN))).await;
            }
        }
    }
}

async fn catch_up(gateway: &str, n: usize, group: &str, begun: Instant) -> anyhow::Result<Returned> {
    let mut refused = 0;
    let mut client = Client::connect(gateway, &format!("away.{n}")).await?;
    let (mut cursor, mut pages) = (0, 0);
    loop {
        client.send(pull_frame(group, cursor, PAGE, false)).await?;
        let end = loop {
            let text = client.next_text().await?;
            if text.starts_with(r#"{"cmd":3,"#) {
                break page_end(&text);
            }
        };
        // Shed load: later.
        let Ok(end) = end else {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(rand::random_range(AGAIN))).await;
            continue;
        };
        pages += 1;
        cursor = end.next_cursor;
        if !end.has_more {
            anyhow::ensure!(cursor >= BACKLOG as u64, "away.{n} ended at {cursor}");
            return Ok(Returned { client, after: begun.elapsed(), pages, refused });
        }
    }
}

/// SELECT statements that the server has run, the samples' included.
pub(super) async fn selects(mysql: &mut MySqlConnection) -> anyhow::Result<u64> {
    let (_, count): (String, String) =
        sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Com_select'").fetch_one(mysql).await?;
    Ok(count.parse()?)
}
