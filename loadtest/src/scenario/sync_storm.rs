//! All users reconnect at the same moment, each to many groups with a few missed messages: they sync, then pull.

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
use super::run::run_as;
use super::sampler::Sampler;
use super::scale::Scale;
use super::steady::as_f64;
use super::storm::{RETRY_MS, until_let_in};
use super::target::{Target, selects};
use testbed::client::{Client, Report};
use testbed::meter::{Used, metric};

const USERS: usize = 2_000;
/// Groups of each user.
const GROUPS_OF_USER: usize = 20;
/// Users of each group, its sender not counted: too few for a group without places in inboxes.
const USERS_OF_GROUP: usize = 400;
/// Messages that each user missed, over all its groups.
const BACKLOG: usize = 200;
/// Connections that are opened at the same time while everyone syncs for the first time.
const JOINING: usize = 64;
/// A storm that takes longer is an error.
const STORM_TIMEOUT: Duration = Duration::from_secs(180);
/// An inbox that is not current after this time is an error.
const INBOX_TIMEOUT: Duration = Duration::from_secs(30);

/// 2,000 users in 20 groups each sync and disconnect; 200 messages are sent past each of them; all reconnect at the same
/// moment, sync and pull to the end.
pub(super) async fn sync_storm(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let users = scale.of(USERS);
    let (report, deployment) = (Arc::new(Report::default()), target.deployment().clone());
    let sampler = Sampler::start("storm", target, &report).await?;
    let storm = Storm::new(users, deployment);
    let groups = storm.groups;
    let load = Load { groups, senders: 1, messages: groups * storm.per_group, stored: true, ..FIFTY_SENDERS };
    let mut participants = Participants::new(&load, storm.deployment.name("storm"));
    for group in 0..groups {
        let members = (0..users).filter(|user| is_in(*user, group, groups)).map(|user| storm.name(user));
        participants.guests.insert(group, members.collect());
        storm.deployment.make_group(&participants.conversation(group), &participants.members(group)).await?;
    }
    let cursors = storm.first_syncs().await?;
    let sent = Box::pin(run_as(&participants, &storm.deployment, &report, Used::default)).await?;
    let mut mysql = target.mysql().await?;
    let before = (selects(mysql.as_mut()).await?, counted(target).await?);
    let begun = Instant::now();
    sampler.mark("all reconnect");
    let storm = Arc::new(storm);
    let mut returning = JoinSet::new();
    for (user, cursor) in cursors.into_iter().enumerate() {
        returning.spawn(Arc::clone(&storm).come_back(user, cursor, begun));
    }
    let Returns { current, refused, wrong } = all_current(returning).await?;
    sampler.mark("all are current");
    let after = (selects(mysql.as_mut()).await?, counted(target).await?);
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, ..Outcome::default() };
    outcome.what = format!(
        "{users} users in {GROUPS_OF_USER} of {groups} groups each reconnect at the same moment, sync, and pull \
         {BACKLOG} messages each"
    );
    let current = Latency::of("until a user is current", &current);
    for (share, name) in [(50.0, "half are current after"), (99.0, "99 % after"), (100.0, "all after")] {
        outcome.figure(name, current.at(share) / 1000.0, "s", None);
    }
    outcome.figure("users with a wrong sync or page", as_f64(wrong), "", Some(Goal::Exactly(0.0)));
    outcome.figure("pulls and syncs", as_f64((users * (GROUPS_OF_USER + 1)) as u64), "", None);
    if let Some((after, before)) = after.0.zip(before.0) {
        outcome.figure("SELECT statements that MySQL ran meanwhile", as_f64(after - before), "", None);
        let each = as_f64(after - before) / as_f64(users as u64);
        outcome.figure("  of them for each user", each, "", None);
    }
    if let Some((after, before)) = after.1.zip(before.1) {
        outcome.figure("pulls answered by an identical one", after.0 - before.0, "", None);
        outcome.figure("reads of a group's newest messages for syncs", after.1 - before.1, "", None);
    }
    outcome.figure("connections refused and tried again", as_f64(refused), "times", None);
    outcome.latencies.push(current);
    sent.add_to(&mut outcome);
    Ok(outcome)
}

struct Returns {
    /// Microseconds until a user was current.
    current: Histogram<u64>,
    refused: u64,
    wrong: u64,
}

async fn all_current(mut returning: JoinSet<anyhow::Result<Returned>>) -> anyhow::Result<Returns> {
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
    tokio::time::timeout(STORM_TIMEOUT, all).await.context("not all users are current in time")??;
    Ok(Returns { current, refused, wrong })
}

/// Each user's groups follow each other, and begin at another one for each user.
fn is_in(user: usize, group: usize, groups: usize) -> bool {
    (group + groups - user % groups) % groups < GROUPS_OF_USER
}

struct Storm {
    users: usize,
    groups: usize,
    /// Messages of each group.
    per_group: usize,
    deployment: Deployment,
}

struct Returned {
    after: Duration,
    refused: u64,
    wrong: Option<String>,
}

impl Storm {
    fn new(users: usize, deployment: Deployment) -> Self {
        let groups = (users * GROUPS_OF_USER).div_ceil(USERS_OF_GROUP).max(GROUPS_OF_USER);
        Self { users, groups, per_group: BACKLOG / GROUPS_OF_USER, deployment }
    }

    fn name(&self, user: usize) -> String {
        self.deployment.name(&format!("member.{user}"))
    }

    /// Every user syncs once and disconnects; returns each one's cursor.
    async fn first_syncs(&self) -> anyhow::Result<Vec<u64>> {
        let first = |user: usize| async move {
            let name = self.name(user);
            let attempt = async || self.deployment.connect(user, &name).await?.sync_all(0).await;
            let (synced, _) = until_let_in(Instant::now(), STORM_TIMEOUT, attempt).await?;
            anyhow::Ok((user, synced.cursor))
        };
        let mut cursors = vec![0; self.users];
        let syncing: Vec<_> = (0..self.users).map(first).collect();
        let mut syncing = futures_util::stream::iter(syncing).buffer_unordered(JOINING);
        while let Some(synced) = syncing.next().await {
            let (user, cursor) = synced?;
            cursors[user] = cursor;
        }
        Ok(cursors)
    }

    async fn come_back(
        self: Arc<Self>,
        user: usize,
        cursor: u64,
        begun: Instant,
    ) -> anyhow::Result<Returned> {
        let name = self.name(user);
        let attempt = async || {
            let mut client = self.deployment.connect(user, &name).await?;
            self.catch_up(&mut client, user, cursor).await
        };
        let (wrong, refused) = until_let_in(begun, STORM_TIMEOUT, attempt).await?;
        Ok(Returned { after: begun.elapsed(), refused, wrong })
    }

    /// Syncs until the inbox names all messages (inboxes follow a burst with some delay), then pulls. Returns a sentence
    /// if something is wrong.
    async fn catch_up(
        &self,
        client: &mut Client,
        user: usize,
        cursor: u64,
    ) -> anyhow::Result<Option<String>> {
        let expected = self.per_group as u64;
        let storm = self.deployment.name("storm");
        let own: Vec<String> = (0..self.groups)
            .filter(|group| is_in(user, *group, self.groups))
            .map(|group| format!("group_{storm}.{group}"))
            .collect();
        let begun = Instant::now();
        loop {
            let synced = client.sync_all(cursor).await?;
            let missing = own.iter().find(|id| {
                synced.of(id).map(|entry| (entry.last_seq, entry.unread))
                    != Some((Some(expected), Some(expected)))
            });
            let Some(id) = missing else { break };
            if begun.elapsed() > INBOX_TIMEOUT {
                return Ok(Some(format!("{}: the sync of {id} says {:?}", self.name(user), synced.of(id))));
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(RETRY_MS))).await;
        }
        for id in own {
            let pulled: Vec<u64> = client.pull_all(&id, 0).await?.iter().map(|message| message.seq).collect();
            if pulled != (1..=expected).collect::<Vec<_>>() {
                return Ok(Some(format!("{}: a pull of {id} gave {pulled:?}", self.name(user))));
            }
        }
        Ok(None)
    }
}

/// Merged pulls and reads of newest messages, over all gateways of a system of its own.
async fn counted(target: &mut Target) -> anyhow::Result<Option<(f64, f64)>> {
    let Some(system) = target.own_system() else { return Ok(None) };
    let mut sums = (0.0, 0.0);
    for url in system.ops_urls() {
        sums.0 += metric(&url, "im_gateway_reads_merged_total").await?;
        sums.1 += metric(&url, "im_gateway_tail_reads_total").await?;
    }
    Ok(Some(sums))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_20_groups_and_every_group_400_users() {
        for user in 0..USERS {
            assert_eq!((0..100).filter(|group| is_in(user, *group, 100)).count(), GROUPS_OF_USER);
        }
        for group in 0..100 {
            assert_eq!((0..USERS).filter(|user| is_in(*user, group, 100)).count(), USERS_OF_GROUP);
        }
    }
}
