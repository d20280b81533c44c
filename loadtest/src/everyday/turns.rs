//! Measures two builds by turns.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use testbed::client::Report;
use testbed::meter;
use testbed::stack::{Builder, System};

use super::summary::{Build, Everyday, Figures, Rest};
use crate::scenario::{Deployment, FIFTY_SENDERS, Load, Rate, run_among_members, shares_at_rest};

/// Messages per second and seconds of the load before each turn: statements are prepared, and connections opened.
const WARM_UP: (f64, f64) = (2_000.0, 3.0);
/// Between two loads.
const SETTLE: Duration = Duration::from_secs(1);
/// Idle connections of a system at rest.
const IDLE_CONNECTIONS: usize = 1_000;

/// What is measured.
#[derive(Debug, Clone)]
pub struct EverydayPlan {
    /// Messages per second, one load each.
    pub rates: Vec<f64>,
    /// Seconds of each load.
    pub seconds: f64,
    /// Rounds; in each, every build has one turn.
    pub rounds: usize,
    /// Seconds of observation at rest; 0: none.
    pub rest_seconds: f64,
    /// Settings of this build.
    pub settings: Vec<(String, String)>,
    /// The folder of the programs of another build.
    pub against: Option<PathBuf>,
    /// Settings of the other build.
    pub against_settings: Vec<(String, String)>,
}

struct Contender {
    name: String,
    system: System,
    turns: Vec<Vec<Figures>>,
    rests: Vec<Rest>,
}

/// Lets each build carry each load, in alternating rounds. Each build has servers of its own; its gateways and workers run
/// during its turns only. `tell` gets a line about each load.
///
/// # Errors
/// If a system does not start, or breaks a promise.
pub async fn measure_everyday(plan: &EverydayPlan, mut tell: impl FnMut(String)) -> anyhow::Result<Everyday> {
    let mut contenders = vec![Contender::start("this build".to_owned(), None, &plan.settings).await?];
    if let Some(folder) = &plan.against {
        let name = folder.display().to_string();
        contenders.push(Contender::start(name, Some(folder), &plan.against_settings).await?);
    }
    for round in 1..=plan.rounds {
        for contender in &mut contenders {
            let measured = Box::pin(contender.turn(plan, round, &mut tell)).await;
            if measured.is_err() {
                contender.system.keep_logs();
            }
            measured.with_context(|| contender.name.clone())?;
        }
    }
    let mut builds = Vec::new();
    for Contender { name, system, turns, rests } in contenders {
        system.stop().await;
        builds.push(Build::new(name, turns, &rests));
    }
    Ok(Everyday { seconds: plan.seconds, rounds: plan.rounds, builds })
}

impl Contender {
    async fn start(
        name: String,
        folder: Option<&PathBuf>,
        settings: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let builder = Builder::new().unlimited();
        let builder = match folder {
            Some(folder) => builder.build_in(folder),
            None => builder,
        };
        let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let mut system = builder.on_own_servers().await.with_context(|| format!("starting {name}"))?;
        pause(&mut system).await;
        Ok(Self { name, system, turns: Vec::new(), rests: Vec::new() })
    }

    async fn turn(
        &mut self,
        plan: &EverydayPlan,
        round: usize,
        tell: &mut impl FnMut(String),
    ) -> anyhow::Result<()> {
        for service in self.system.services() {
            service.launch()?;
        }
        for service in self.system.services() {
            service.ready(Duration::from_secs(60)).await?;
        }
        let deployment = Deployment::of(&self.system);
        self.load(&deployment, WARM_UP.0, WARM_UP.1).await?;
        let mut turn = Vec::new();
        for rate in &plan.rates {
            tokio::time::sleep(SETTLE).await;
            let figures = self.load(&deployment, *rate, plan.seconds).await?;
            tell(format!(
                "round {round}: {}: {rate}/s: ack {:.2} / {:.2} ms, push {:.2} / {:.2} ms, {:.0} us each",
                self.name,
                figures.ack_p50_ms,
                figures.ack_p99_ms,
                figures.push_p50_ms,
                figures.push_p99_ms,
                figures.cpu_sum_us()
            ));
            turn.push(figures);
        }
        self.turns.push(turn);
        if plan.rest_seconds > 0.0 {
            let observed_for = Duration::from_secs_f64(plan.rest_seconds);
            let system = &mut self.system;
            let used = || meter::used(system);
            let core_shares = shares_at_rest(&deployment, IDLE_CONNECTIONS, observed_for, used).await?;
            let rest = Rest { connections: IDLE_CONNECTIONS, core_shares };
            tell(format!(
                "round {round}: {}: at rest: {:.2} % of a core",
                self.name,
                rest.services() * 100.0
            ));
            self.rests.push(rest);
        }
        pause(&mut self.system).await;
        Ok(())
    }

    async fn load(&mut self, deployment: &Deployment, rate: f64, seconds: f64) -> anyhow::Result<Figures> {
        let load = Load { rate: Some(Rate { per_second: rate, seconds, spike: None }), ..FIFTY_SENDERS };
        let report = Arc::new(Report::default());
        let system = &mut self.system;
        let figures = run_among_members(&load, deployment, &report, || meter::used(system)).await?;
        anyhow::ensure!(figures.verdict.is_good(), "a promise was broken: {}", figures.verdict);
        let push = figures.delivery.as_ref();
        Ok(Figures {
            rate,
            ack_p50_ms: figures.ack.at(50.0),
            ack_p99_ms: figures.ack.at(99.0),
            push_p50_ms: push.map_or(0.0, |push| push.at(50.0)),
            push_p99_ms: push.map_or(0.0, |push| push.at(99.0)),
            cpu_us: figures
                .cpu_seconds_per_1000
                .iter()
                .map(|(kind, s)| (kind.clone(), s * 1_000.0))
                .collect(),
        })
    }
}

/// Stops the gateways, then the workers; the servers keep running.
async fn pause(system: &mut System) {
    let services = system.services().map(|service| service.terminate());
    futures_util::future::join_all(services).await;
}
