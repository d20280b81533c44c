//! The scenarios by name.

use futures_util::future::LocalBoxFuture;
use serde::Serialize;

use super::outcome::Outcome;
use super::{backlog, big_group, growth, idle, many, pulls, slow_readers, steady, storm, sync_storm};
use testbed::stack::{Builder, System};

/// How big a scenario is to be.
#[derive(Debug, Clone, Serialize)]
pub struct Scale {
    /// Of its connections, groups and messages: 1 is what the goals speak of.
    pub factor: f64,
    /// Messages per second taken for the peak where one is needed; without it a burst finds it out first.
    pub peak: Option<f64>,
}

impl Scale {
    /// `full`, scaled; at least 1.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // small counts
    pub fn of(&self, full: usize) -> usize {
        ((full as f64 * self.factor).round() as usize).max(1)
    }
}

type Run = for<'a> fn(&'a mut System, &'a Scale) -> LocalBoxFuture<'a, anyhow::Result<Outcome>>;

/// One of them.
pub struct Scenario {
    /// On the command line.
    pub name: &'static str,
    /// In a line.
    pub about: &'static str,
    build: fn(Builder) -> Builder,
    run: Run,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Scenario {
    /// The system that it needs.
    #[must_use]
    pub fn builder(&self) -> Builder {
        (self.build)(Builder::new().unlimited())
    }

    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be brought to its end.
    pub async fn run(&self, system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
        let mut outcome = (self.run)(system, scale).await?;
        self.name.clone_into(&mut outcome.name);
        Ok(outcome)
    }
}

/// For clients that only listen, and send no heartbeats: connecting ten thousand takes longer than silence is allowed.
fn silent(builder: Builder) -> Builder {
    builder.set("IM__TIMEOUTS__HEARTBEAT_MS", 600_000)
}

macro_rules! scenarios {
    ($($name:literal, $about:literal, $build:expr, $run:path;)*) => {
        /// All of them.
        pub const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: $name,
            about: $about,
            build: $build,
            run: |system, scale| Box::pin($run(system, scale)),
        }),*];
    };
}

scenarios! {
    "burst", "50 senders as fast as a window of 64 lets them", |b| b, steady::burst;
    "alone", "one sender, one message at a time", |b| b, steady::alone;
    "steady", "an open loop at 30 % of the peak, with a listener in each group", |b| b, steady::steady;
    "spike", "ten times a steady rate for ten seconds", |b| b, steady::spike;
    "groups-of-50", "10 groups of 50 connected members, 5 of them senders", |b| b, many::groups_of_50;
    "group-of-500", "one group of 500 connected members, 10 of them senders", |b| b, many::group_of_500;
    "group-of-10000", "one group of 10,000 connected members and one sender", silent, big_group::big_group;
    "small-groups", "1,000 groups of 5 connected members", |b| b, many::small_groups;
    "private", "2,000 private chats, both sides connected and sending", |b| b, many::private;
    "idle", "50,000 idle connections on one gateway", |b| b.gateways(1), idle::idle_scenario;
    "reconnect-storm", "5,000 members of one group come back to 1,000 messages each", |b| b, storm::storm;
    "storm", "2,000 users of 20 groups each come back, sync, and pull 200 messages", |b| b, sync_storm::sync_storm;
    "slow-readers", "readers that take little or nothing among fast ones", |b| b, slow_readers::slow_readers;
    "worker-away", "all workers killed for 30 s under a steady rate", |b| b, backlog::worker_away;
    "backlog", "a million messages accepted without workers, then drained", |b| b, backlog::backlog;
    "pulls", "pages of 50 recent messages, the same one and different ones", |b| b, pulls::pulls;
    "growth-conversations", "the price of a message as conversations grow to 100,000", |b| b, growth::conversations;
    "growth-history", "the price of a message as history grows to 10,000,000 rows", |b| b, growth::history;
    "growth-gateways", "the price of a message with 1 to 8 gateways", |b| b.gateways(8), growth::gateways;
}

/// The one with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
