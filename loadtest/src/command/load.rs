//! `loadtest burst`, `rate` and `idle`.

use std::process::ExitCode;

use clap::Args;
use loadtest::report::Record;
use loadtest::scenario::{Load, Rate, Target, idle_outcome, measure};
use serde::Serialize;
use testbed::stack::{Builder, parse_setting, require};

use super::deployed::{Tokens, gateway, without_secrets};
use super::glossary::GLOSSARY;
use super::output::Output;
use super::stack::Where;
use super::{raise_file_limit, until_interrupted, usage};

/// Send as fast as the window allows; measure, and judge whether every promise was kept.
#[derive(Debug, Args, Serialize)]
#[command(after_long_help = GLOSSARY)]
pub(crate) struct Burst {
    /// Messages in all.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Messages that each sender may have unanswered.
    #[arg(long, default_value_t = 64)]
    window: usize,
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
}

/// Send at fixed times, whether earlier messages were answered or not; measure, and judge. Latency counts from those times.
#[derive(Debug, Args, Serialize)]
#[command(after_long_help = GLOSSARY)]
pub(crate) struct Steady {
    /// Messages per second in all.
    #[arg(long, default_value_t = 1000.0)]
    per_second: f64,
    /// Duration in seconds.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// A higher rate for a while: factor,from,to in seconds, such as 10,10,20.
    #[arg(long, value_parser = spike)]
    spike: Option<(f64, f64, f64)>,
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Args, Serialize)]
struct Common {
    /// Groups, each a conversation.
    #[arg(long, default_value_t = 10)]
    groups: usize,
    /// Members of each group that send.
    #[arg(long, default_value_t = 5)]
    senders: usize,
    /// Members of each group that are connected and only listen.
    #[arg(long, default_value_t = 0)]
    listeners: usize,
    /// Bytes of each message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Request replies at the commit instead of the acceptance.
    #[arg(long)]
    stored: bool,
    #[command(flatten)]
    #[serde(flatten)]
    output: Output,
    #[command(flatten)]
    #[serde(flatten)]
    place: Place,
}

/// A running deployment, or a system that is started for the run.
#[derive(Debug, Args, Serialize)]
struct Place {
    /// A gateway of a running deployment, ws://host:port/ws or wss://host:port/ws; repeatable. Without it, a system is started for the run.
    #[arg(
        long,
        value_name = "URL",
        value_parser = gateway,
        conflicts_with_all = ["settings", "install", "mysql_url", "redis_url", "amqp_url"]
    )]
    gateway: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    tokens: Tokens,
    /// A setting of the gateways and workers that are started, such as limits.batches_at_once=8; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    #[serde(serialize_with = "without_secrets")]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    #[serde(skip)]
    servers: Where,
}

/// Open idle connections, which only send heartbeats. Of a system that is started for the run, the memory of the gateway
/// for each connection is measured; of a running deployment, whether all connections stay open.
#[derive(Debug, Args, Serialize)]
#[command(after_long_help = GLOSSARY)]
pub(crate) struct IdleArguments {
    /// Connections, each of a user of its own.
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    #[command(flatten)]
    #[serde(flatten)]
    output: Output,
    #[command(flatten)]
    #[serde(flatten)]
    place: Place,
}

fn spike(text: &str) -> Result<(f64, f64, f64), String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([factor, from, to]) if *factor > 0.0 && from < to => Ok((*factor, *from, *to)),
        _ => Err("give factor,from,to, such as 10,10,20".to_owned()),
    }
}

impl Burst {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let load = self.load()?;
        self.common.run("burst", &load, serde_json::to_value(&self)?).await
    }

    fn load(&self) -> anyhow::Result<Load> {
        if self.window == 0 || self.messages == 0 {
            return Err(usage("--window and --messages must be above 0"));
        }
        Ok(Load { messages: self.messages, window: self.window, ..self.common.load()? })
    }
}

impl Steady {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let load = self.load()?;
        self.common.run("rate", &load, serde_json::to_value(&self)?).await
    }

    fn load(&self) -> anyhow::Result<Load> {
        if self.per_second.is_nan() || self.per_second <= 0.0 || self.seconds.is_nan() || self.seconds <= 0.0
        {
            return Err(usage("--per-second and --seconds must be above 0"));
        }
        if self.spike.is_some_and(|(_, from, _)| from >= self.seconds) {
            return Err(usage("--spike has no effect: it begins after --seconds"));
        }
        let rate = Rate { per_second: self.per_second, seconds: self.seconds, spike: self.spike };
        Ok(Load { rate: Some(rate), ..self.common.load()? })
    }
}

impl Common {
    fn load(&self) -> anyhow::Result<Load> {
        if self.groups == 0 || self.senders == 0 {
            return Err(usage("--groups and --senders must be above 0"));
        }
        if self.size > 4096 {
            return Err(usage("--size is at most 4096: the protocol takes no longer content"));
        }
        Ok(Load {
            groups: self.groups,
            listeners: self.listeners,
            senders: self.senders,
            messages: 0,
            window: 0,
            size: self.size,
            stored: self.stored,
            rate: None,
        })
    }

    async fn run(&self, name: &str, load: &Load, options: serde_json::Value) -> anyhow::Result<ExitCode> {
        let record = Record::new(options, &self.place.gateway);
        let mut target = self.place.target().await?;
        let measured = until_interrupted(measure(name, load, &mut target)).await;
        if measured.is_err() {
            target.keep_logs();
        }
        target.stop().await;
        let (figures, outcome) = measured?;
        println!("{figures}");
        outcome.reservations().iter().for_each(|sentence| println!("           {sentence}"));
        println!("result     {}", outcome.conclusion());
        self.output.finish(record, outcome, Some(&figures))
    }
}

impl IdleArguments {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        if self.connections == 0 {
            return Err(usage("--connections must be above 0"));
        }
        let record = Record::new(serde_json::to_value(&self)?, &self.place.gateway);
        let mut target = self.place.target().await?;
        let measured = until_interrupted(idle_outcome(&mut target, self.connections, false)).await;
        if measured.is_err() {
            target.keep_logs();
        }
        target.stop().await;
        let outcome = measured?;
        print!("{outcome}");
        self.output.finish(record, outcome, None)
    }
}

impl Place {
    /// The running deployment, or a system without limits per user and address.
    async fn target(&self) -> anyhow::Result<Target> {
        raise_file_limit();
        if !self.gateway.is_empty() {
            return Ok(Target::given(self.tokens.deployment(&self.gateway).await?));
        }
        let builder = Builder::new().unlimited();
        let builder = self.settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        eprintln!("starting a system");
        let system = match self.servers.given() {
            Some(urls) => builder.on(urls).await?,
            None => {
                require(self.servers.install()).await?;
                builder.on_own_servers().await?
            }
        };
        Ok(Target::own(system))
    }
}
