//! All members of a group reconnect at the same moment, each with a thousand messages to pull.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deployment::Deployment;
use super::load::{FIFTY_SENDERS, Load, Participants};
use super::outcome::{Goal, Latency, Outcome};
use super::pages::{PageReply, page_reply};
use super::run::run_as;
use super::sampler::Sampler;
use super::scale::Scale;
use super::steady::as_f64;
use super::target::{Target, selects};
use testbed::client::{Client, Error, Report, Request, pull_frame};
use testbed::meter::Used;

const MEMBERS: usize = 5_000;
const BACKLOG: usize = 1_000;
/// Messages of one page: the protocol's maximum.
const PAGE: usize = 500;
/// Connections that are opened at the same time while everyone joins.
const JOINING: usize = 64;
/// A storm that takes longer is an error.
const STORM_TIMEOUT: Duration = Duration::from_secs(120);
/// Milliseconds before a client that was refused connects again.
pub(super) const RETRY_MS: std::ops::Range<u64> = 50..300;

/// 5,000 members join and disconnect; 1,000 messages are sent; all members reconnect at the same moment.
pub(super) async fn storm(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let members = scale.of(MEMBERS);
    let (report, deployment) = (Arc::new(Report::default()), target.deployment().clone());
    let sampler = Sampler::start("reconnect-storm", target, &report).await?;
    let load = Load { groups: 1, senders: 1, messages: BACKLOG, ..FIFTY_SENDERS };
    let mut participants = Participants::new(&load, deployment.name("storm"));
    let users: Vec<String> = (0..members).map(|n| deployment.name(&format!("away.{n}"))).collect();
    participants.guests.insert(0, users.clone());
    let group = participants.conversation(0);
    deployment.make_group(&group, &participants.members(0)).await?;
    join(&users, &group, &deployment).await?;
    let sent = Box::pin(run_as(&participants, &deployment, &report, Used::default)).await?;
    let mut mysql = target.mysql().await?;
    let (before, begun) = (selects(mysql.as_mut()).await?, Instant::now());
    sampler.mark("all reconnect");
    let mut returning = JoinSet::new();
    for (n, user) in users.into_iter().enumerate() {
        let member = Member { n, user, group: group.clone(), deployment: deployment.clone() };
        returning.spawn(member.come_back(begun, Arc::clone(&report)));
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
    tokio::time::timeout(STORM_TIMEOUT, all).await.context("not all members are current in time")??;
    sampler.mark("all are current");
    let after = selects(mysql.as_mut()).await?;
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, ..Outcome::default() };
    outcome.what =
        format!("{members} members of one group connect at the same moment and pull {BACKLOG} messages each");
    let current = Latency::of("until a member is current", &current);
    outcome.figure("all are current after", current.at(100.0) / 1000.0, "s", Some(Goal::Under(15.0)));
    outcome.figure("half are current after", current.at(50.0) / 1000.0, "s", None);
    outcome.figure("pages pulled", as_f64(pages), "", None);
    if let Some((after, before)) = after.zip(before) {
        outcome.figure("SELECT statements that MySQL ran meanwhile", as_f64(after - before), "", None);
    }
    outcome.figure("connections and pulls refused and tried again", as_f64(refused), "times", None);
    outcome.latencies.push(current);
    sent.add_to(&mut outcome);
    outcome.refusals = report.refusals.list();
    Ok(outcome)
}

/// All users connect once and disconnect.
async fn join(users: &[String], group: &str, deployment: &Deployment) -> anyhow::Result<()> {
    let join = |(n, user): (usize, &String)| {
        let user = user.clone();
        async move { deployment.join(n, &user, group).await.map(drop) }
    };
    let joining: Vec<_> = users.iter().enumerate().map(join).collect();
    let mut joining = futures_util::stream::iter(joining).buffer_unordered(JOINING);
    while let Some(joined) = joining.next().await {
        joined?;
    }
    Ok(())
}

struct Member {
    n: usize,
    user: String,
    group: String,
    deployment: Deployment,
}

struct Returned {
    client: Client,
    after: Duration,
    pages: u64,
    refused: u64,
}

impl Member {
    async fn come_back(self, begun: Instant, report: Arc<Report>) -> anyhow::Result<Returned> {
        let (returned, refused) =
            until_let_in(begun, STORM_TIMEOUT, || self.catch_up(begun, &report)).await?;
        Ok(Returned { refused: returned.refused + refused, ..returned })
    }

    async fn catch_up(&self, begun: Instant, report: &Report) -> anyhow::Result<Returned> {
        let mut refused = 0;
        let mut client = self.deployment.connect(self.n, &self.user).await?;
        let (mut cursor, mut pages) = (0, 0);
        loop {
            client.send(pull_frame(&self.group, cursor, PAGE, false)).await?;
            let reply = loop {
                let text = client.next_text().await?;
                if text.starts_with(r#"{"cmd":3,"#) {
                    break page_reply(&text)?;
                }
            };
            let end = match reply {
                PageReply::Page(end) => end,
                PageReply::Refused { code, message, retry_after } => {
                    refused += 1;
                    report.refusals.count(Request::Read, code, &message);
                    tokio::time::sleep(retry_after).await;
                    continue;
                }
            };
            pages += 1;
            cursor = end.next_cursor;
            if !end.has_more {
                anyhow::ensure!(cursor >= BACKLOG as u64, "{} ended at {cursor}", self.user);
                return Ok(Returned { client, after: begun.elapsed(), pages, refused });
            }
        }
    }
}

/// Tries again when the gateway sheds load; fails with the last error after `timeout` since `begun`. Returns the number of
/// failed attempts too.
pub(super) async fn until_let_in<T, F: Future<Output = anyhow::Result<T>>>(
    begun: Instant,
    timeout: Duration,
    attempt: impl Fn() -> F,
) -> anyhow::Result<(T, u64)> {
    let mut refused = 0;
    loop {
        match attempt().await {
            Ok(done) => return Ok((done, refused)),
            Err(error) if begun.elapsed() > timeout => return Err(error),
            Err(error) => {
                refused += 1;
                let wait = error.downcast_ref::<Error>().and_then(Error::retry_after);
                let pause = Duration::from_millis(rand::random_range(RETRY_MS));
                tokio::time::sleep(wait.unwrap_or(pause)).await;
            }
        }
    }
}
