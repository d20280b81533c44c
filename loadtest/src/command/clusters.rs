//! `loadtest clusters`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chaos::{Cluster, Course, Fault, Injection, Options, Outcome};
use clap::{Args, ValueEnum};
use testbed::stack::{Builder, Install, require_for_clusters};

use super::chaos::run_shown;

/// Lose servers of clusters while messages flow, and judge whether every promise was kept.
///
/// Starts a system on each kind of cluster in turn, from the files in deploy/clusters, and injects all faults of that cluster
/// one after the other. Exit code 0: nothing is lost, duplicated or reordered, and every connection receives pushes.
#[derive(Debug, Args)]
pub(crate) struct Clusters {
    /// Only this kind of cluster; may be given several times.
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// Seed of the random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages per second in all; five times as many in the last of each ten seconds.
    #[arg(long, default_value_t = 200.0)]
    per_second: f64,
    /// Write the table to this file, in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    RedisSentinel,
    RedisCluster,
    Galera,
    GaleraNodes,
    Rabbitmq,
}

impl Kind {
    fn cluster(self) -> Cluster {
        match self {
            Self::RedisSentinel => Cluster::RedisSentinel,
            Self::RedisCluster => Cluster::RedisCluster,
            Self::Galera => Cluster::Galera,
            Self::GaleraNodes => Cluster::GaleraNodes,
            Self::Rabbitmq => Cluster::Rabbitmq,
        }
    }
}

impl Clusters {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(self.per_second > 0.0, "--per-second must be above 0");
        super::raise_file_limit();
        require_for_clusters(Install::when(self.install)).await?;
        println!("{}", Injection::HEAD);
        let kinds = Kind::value_variants().iter();
        let wanted = kinds.filter(|kind| self.only.is_empty() || self.only.contains(kind));
        let mut outcomes = Vec::new();
        for kind in wanted {
            outcomes.push(Box::pin(self.on(kind.cluster())).await?);
        }
        if let Some(file) = &self.markdown {
            std::fs::write(file, markdown(&outcomes)).with_context(|| file.display().to_string())?;
        }
        let is_good = outcomes.iter().all(Outcome::is_good);
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// All faults of one kind of cluster.
    async fn on(&self, cluster: Cluster) -> anyhow::Result<Outcome> {
        let faults = Fault::all().filter(|fault| fault.cluster() == Some(cluster)).collect();
        let options = Options {
            course: Course::Each(faults),
            seed: self.seed,
            per_second: self.per_second,
            readers: 15,
        };
        let builder = cluster.of(Builder::new().unlimited().webhooks().many_shards().linked());
        run_shown(builder, &options, None).await
    }
}

/// The rows of docs/faults.md.
fn markdown(outcomes: &[Outcome]) -> String {
    let mut table =
        "| fault | duration | served again after | silence | reply | lag | refused |\n".to_owned();
    table += "|---|---|---|---|---|---|---|\n";
    for Injection {
        fault,
        lasted_s,
        served_after_s,
        silence_s,
        longest_answer_s,
        longest_lag_s,
        refused,
        ..
    } in outcomes.iter().flat_map(|outcome| &outcome.faults)
    {
        table += &format!(
            "| `{fault}` | {lasted_s:.1} s | {served_after_s:.1} s | {silence_s:.1} s | {longest_answer_s:.1} s | \
             {longest_lag_s:.1} s | {refused} |\n"
        );
    }
    table
}
