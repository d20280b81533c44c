//! Everyone comes back at once, to many groups with a few messages each: who has what is asked first.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use serde_json::json;
use sqlx::ConnectOptions as _;
use sqlx::mysql::MySqlConnectOptions;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catalog::Scale;
use super::outcome::{Goal, Latency, Outcome};
use super::run::{Load, run_watched};
use super::sampler::Sampler;
use super::steady::{FIFTY_SENDERS, as_f64};
use super::storm::{selects, until_let_in};
use testbed::client::{Client, Http, Report};
use testbed::meter::{Used, metric};
use testbed::stack::System;

const USERS: usize = 2_000;
/// Groups of each user.
const GROUPS_OF_USER: usize = 20;
/// Users of each group, its sender not counted: below what makes a group too large for inboxes.
const USERS_OF_GROUP: usize = 400;
/// Messages that each user missed, over all its groups.
const BACKLOG: usize = 200;
/// Connections that are made at once while everyone looks in for the first time.
const JOINING: usize = 64;
/// A storm that is not over by then never will be.
const PATIENCE: Duration = Duration::from_secs(180);
/// An inbox that has not followed by then never will.
const TOLD_PATIENCE: Duration = Duration::from_secs(30);
/// Before someone who was not let in tries again.
const AGAIN: std::ops::Range<u64> = 50..300;

/// 2,000 users in 20 groups each look in and go; 200 messages are sent past each of them; all come back in the same
/// moment, sync and pull to the end.
pub(super) async fn sync_storm(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let users = scale.of(USERS);
    let groups = (users * GROUPS_OF_USER).div_ceil(USERS_OF_GROUP).max(GROUPS_OF_USER);
    let per_group = BACKLOG / GROUPS_OF_USER;
    let (report, gateways) = (Arc::new(Report::default()), system.ws_urls());
    let sampler = Sampler::start("storm", system, &report).await?;
    let operator = Http::of_operator(&system.http_urls()[0], system.operator_key());
    for group in 0..groups {
        // Whoever sends there, as the load names it, is a member too.
        let mut members = vec![format!("storm.{group}.0")];
        members.extend((0..users).filter(|user| is_in(*user, group, groups)).map(name));
        let new = json!({"conversation_id": format!("group_storm.{group}"), "members": members});
        operator.ok("POST", "/api/groups", Some(new)).await?;
    }
    let first_look = |user: usize| {
        let gateway = gateways[user % gateways.len()].clone();
        async move {
            let attempt = async || connect(&gateway, user).await?.sync_all(0).await;
            let (synced, _) = until_let_in(Instant::now(), PATIENCE, attempt).await?;
            anyhow::Ok((user, synced.cursor))
        }
    };
    let mut cursors = vec![0; users];
    let looks: Vec<_> = (0..users).map(first_look).collect();
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(JOINING);
    while let Some(look) = looks.next().await {
        let (user, cursor) = look?;
        cursors[user] = cursor;
    }
    let load = Load { groups, senders: 1, messages: groups * per_group, stored: true, ..FIFTY_SENDERS };
    let sent = Box::pin(run_watched(&load, &gateways, "storm", &report, Used::default)).await?;
    let mut mysql =
        system.urls.mysql.parse::<MySqlConnectOptions>()?.disable_statement_logging().connect().await?;
    let before = (selects(&mut mysql).await?, counted(system).await?);
    let begun = Instant::now();
    sampler.mark("all come back");
    let mut returning = JoinSet::new();
    for (user, cursor) in cursors.into_iter().enumerate() {
        let gateway = gateways[user % gateways.len()].clone();
        returning.spawn(come_back(gateway, user, groups, per_group, cursor, begun));
    }
    let mut current = Histogram::<u64>::new_with_max(600_000_000, 3)?;
    let (mut refused, mut wrong) = (0, 0);
    let all = async {
        while let Some(returned) = returning.join_next().await {
            let returned = returned??;
            current.saturating_record(u64::try_from(returned.after.as_micros())?);
            refused += returned.refused;
            if let Some(why) = returned.wrong {
                wrong += 1;
                eprintln!("{why}");
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("not all came back")??;
    sampler.mark("all are current");
    let after = (selects(&mut mysql).await?, counted(system).await?);
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, verdict: Some(sent.verdict), ..Outcome::default() };
    outcome.what = format!(
        "{users} users in {GROUPS_OF_USER} of {groups} groups each come back in the same moment, sync, and pull \
         {BACKLOG} messages each"
    );
    let current = Latency::of("until a user is current", &current);
    for (share, name) in [(50.0, "half are current after"), (99.0, "99 % after"), (100.0, "all after")] {
        outcome.figure(name, current.at(share) / 1000.0, "s", None);
    }
    let reads = after.0 - before.0;
    outcome.figure(
        "users that were told or given something wrong",
        as_f64(wrong),
        "",
        Some(Goal::Exactly(0.0)),
    );
    outcome.figure("pulls and syncs", as_f64((users * (GROUPS_OF_USER + 1)) as u64), "", None);
    outcome.figure("SELECT statements that MySQL ran meanwhile", as_f64(reads), "", None);
    outcome.figure("of them for each user", as_f64(reads) / as_f64(users as u64), "", None);
    outcome.figure("pulls answered by an identical one", after.1.0 - before.1.0, "", None);
    outcome.figure("reads of a group's newest messages for syncs", after.1.1 - before.1.1, "", None);
    outcome.figure("connections refused and tried again", as_f64(refused), "times", None);
    outcome.latencies.push(current);
    Ok(outcome)
}

fn name(user: usize) -> String {
    format!("member.{user}")
}

/// Each user's groups follow each other, beginning at another place for each.
fn is_in(user: usize, group: usize, groups: usize) -> bool {
    (group + groups - user % groups) % groups < GROUPS_OF_USER
}

struct Returned {
    after: Duration,
    refused: u64,
    wrong: Option<String>,
}

async fn connect(gateway: &str, user: usize) -> anyhow::Result<Client> {
    Client::open(&format!("{gateway}?user_id={}&device_id=phone", name(user))).await
}

async fn come_back(
    gateway: String,
    user: usize,
    groups: usize,
    per_group: usize,
    cursor: u64,
    begun: Instant,
) -> anyhow::Result<Returned> {
    let attempt = async || {
        let mut client = connect(&gateway, user).await?;
        catch_up(&mut client, user, groups, per_group, cursor).await
    };
    let (wrong, refused) = until_let_in(begun, PATIENCE, attempt).await?;
    Ok(Returned { after: begun.elapsed(), refused, wrong })
}

/// Syncs until all is told (inboxes follow a burst with some delay), then pulls. `Some` says what was wrong.
async fn catch_up(
    client: &mut Client,
    user: usize,
    groups: usize,
    per_group: usize,
    cursor: u64,
) -> anyhow::Result<Option<String>> {
    let expected = per_group as u64;
    let own: Vec<String> = (0..groups)
        .filter(|group| is_in(user, *group, groups))
        .map(|group| format!("group_storm.{group}"))
        .collect();
    let begun = Instant::now();
    loop {
        let synced = client.sync_all(cursor).await?;
        let untold = own.iter().find(|id| {
            synced.of(id).map(|entry| (entry.last_seq, entry.unread))
                != Some((Some(expected), Some(expected)))
        });
        let Some(id) = untold else { break };
        if begun.elapsed() > TOLD_PATIENCE {
            return Ok(Some(format!("{} was told {:?} of {id}", name(user), synced.of(id))));
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(AGAIN))).await;
    }
    for id in own {
        let seen: Vec<u64> = client.pull_all(&id, 0).await?.iter().map(|message| message.seq).collect();
        if seen != (1..=expected).collect::<Vec<_>>() {
            return Ok(Some(format!("{} was given {seen:?} of {id}", name(user))));
        }
    }
    Ok(None)
}

/// Merged pulls and reads of tails, over all gateways.
async fn counted(system: &System) -> anyhow::Result<(f64, f64)> {
    let mut sums = (0.0, 0.0);
    for url in system.http_urls() {
        sums.0 += metric(&url, "im_gateway_reads_merged_total").await?;
        sums.1 += metric(&url, "im_gateway_tail_reads_total").await?;
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_in_as_many_groups_and_every_group_has_as_many_users() {
        for user in 0..USERS {
            assert_eq!((0..100).filter(|group| is_in(user, *group, 100)).count(), GROUPS_OF_USER);
        }
        for group in 0..100 {
            assert_eq!((0..USERS).filter(|user| is_in(*user, group, 100)).count(), USERS_OF_GROUP);
        }
    }
}
