//! The list of scenarios.

use futures_util::future::LocalBoxFuture;

use super::outcome::Outcome;
use super::scale::Scale;
use super::target::Target;
use super::{
    backlog, big_group, fanout, files, growth, idle, many, pulls, reactions, slow_readers, steady, storm,
    sync_storm,
};
use testbed::stack::Builder;

type Run = for<'a> fn(&'a mut Target, &'a Scale) -> LocalBoxFuture<'a, anyhow::Result<Outcome>>;

/// A scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// A line about it.
    pub about: &'static str,
    /// The reason why it needs a system of its own, if it cannot run against a running deployment.
    pub needs_own: Option<&'static str>,
    /// Whether it needs to know the peak, and measures it unless it is given.
    pub needs_peak: bool,
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

    /// Whether the scenario itself decides the number that this option (`--gateways` or `--workers`) sets.
    #[must_use]
    pub fn fixes(&self, option: &str) -> bool {
        match option {
            "--gateways" => matches!(self.name, "idle" | "growth-gateways" | "fanout" | "files"),
            "--workers" => matches!(self.name, "worker-away" | "backlog"),
            _ => false,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be completed.
    pub async fn run(&self, target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
        let mut outcome = (self.run)(target, scale).await?;
        self.name.clone_into(&mut outcome.name);
        Ok(outcome)
    }
}

fn usual(builder: Builder) -> Builder {
    builder
}

const READS: Option<&str> = Some("it compares the folder of the files with nginx on the same folder");
const KILLS: Option<&str> = Some("it stops workers");
const COUNTS: Option<&str> = Some("it measures the processor time of gateways, workers and servers");
const FILLS: Option<&str> = Some("it copies rows in MySQL and measures the processor time of all processes");
const STOPS: Option<&str> = Some("it stops gateways and measures the processor time of all processes");

macro_rules! scenarios {
    ($($name:literal, $about:literal, $build:expr, $run:path, $needs_own:expr, $needs_peak:literal;)*) => {
        /// All scenarios.
        pub const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: $name,
            about: $about,
            needs_own: $needs_own,
            needs_peak: $needs_peak,
            build: $build,
            run: |target, scale| Box::pin($run(target, scale)),
        }),*];
    };
}

scenarios! {
    "burst", "50 senders as fast as a window of 64 allows", usual, steady::burst, None, false;
    "alone", "one sender, one message at a time", usual, steady::alone, None, false;
    "steady", "an open loop at 30 % of the peak, with a listener in each group", usual, steady::steady, None, true;
    "spike", "ten times a steady rate for ten seconds", usual, steady::spike, None, true;
    "groups-of-50", "10 groups of 50 connected members, 5 of them senders", usual, many::groups_of_50, None, false;
    "group-of-500", "one group of 500 connected members, 10 of them senders", usual, many::group_of_500, None, false;
    "group-of-10000", "one group of 10,000 connected members and one sender", usual, big_group::big_group, None, false;
    "small-groups", "1,000 groups of 5 connected members", usual, many::small_groups, None, false;
    "private", "2,000 private chats, both sides connected and sending", usual, many::private, None, false;
    "idle", "50,000 idle connections; on one gateway, unless --gateway names several", |b| b.gateways(1), idle::idle_scenario, None, false;
    "reconnect-storm", "5,000 members of one group reconnect and pull 1,000 messages each", usual, storm::storm, None, false;
    "storm", "2,000 users of 20 groups each reconnect, sync, and pull 200 messages", usual, sync_storm::sync_storm, None, false;
    "slow-readers", "clients that read little or nothing among fast ones", usual, slow_readers::slow_readers, None, false;
    "pulls", "pages of 50 recent messages, the same one and different ones", usual, pulls::pulls, None, false;
    "reactions", "2,000 reactions a second into a group of 1,000 connected members, then 10,000 to one message", usual, reactions::reactions, None, false;
    "files", "uploads and downloads of files of 64 KiB and 8 MiB, by turns with nginx", |b| b.gateways(1), files::files, READS, false;
    "worker-away", "all workers killed for 30 s under a steady rate", usual, backlog::worker_away, KILLS, false;
    "backlog", "a million messages accepted without workers, then drained", usual, backlog::backlog, KILLS, false;
    "growth-conversations", "the price of a message as conversations grow to 100,000", usual, growth::conversations, COUNTS, false;
    "growth-history", "the price of a message as history grows to 10,000,000 rows", usual, growth::history, FILLS, false;
    "growth-gateways", "the price of a message with 1 to 8 gateways", |b| b.gateways(8), growth::gateways, STOPS, false;
    "fanout", "useful and useless events of private chats and small groups with 1 to 8 gateways", |b| b.gateways(8), fanout::fanout, STOPS, false;
}

/// The scenario with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_most_scenarios_run_against_a_running_deployment() {
        let names: std::collections::BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        let own: Vec<_> =
            SCENARIOS.iter().filter(|scenario| scenario.needs_own.is_some()).map(|s| s.name).collect();
        assert_eq!(
            own,
            [
                "files",
                "worker-away",
                "backlog",
                "growth-conversations",
                "growth-history",
                "growth-gateways",
                "fanout"
            ]
        );
    }
}
