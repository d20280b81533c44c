//! `loadtest stack up`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use testbed::stack::{Builder, DEFAULT_PORT, System, gateway_ports, parse_setting, require, supervise};

use super::ready::Ready;
use super::servers::Where;
use crate::command::interrupted;

/// Start servers, gateways and workers, and stay until Ctrl-C or SIGTERM.
///
/// A process that ends unasked is started again, at most three times a minute; then everything is stopped with an error.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Number of gateways.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    gateways: u16,
    /// Number of workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    workers: u16,
    /// The first gateway's port; the others follow. Without this option: from 8081 on, and any free port for each of those
    /// that is taken.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A setting of gateways and workers, such as limits.batches_at_once=8; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// The folder of data and logs, which stays from one start to the next.
    #[arg(long, value_name = "FOLDER", default_value = ".im")]
    data: PathBuf,
    /// Play a short conversation before it is ready.
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    servers: Where,
}

impl Up {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let begin = Instant::now();
        let stop = interrupted();
        tokio::pin!(stop);
        // Dropped before its end, the start ends everything that it has started.
        let mut system = tokio::select! {
            started = self.start() => started?,
            stopped = &mut stop => {
                stopped?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let ended = tokio::select! {
            stopped = &mut stop => stopped.map_err(anyhow::Error::from),
            failed = self.stay(&mut system, begin) => failed,
        };
        println!("stopping");
        tokio::select! {
            () = system.stop() => {}
            again = interrupted() => {
                again?;
                println!("stopped before everything had ended: the remaining processes are killed");
            }
        }
        ended.map(|()| ExitCode::SUCCESS)
    }

    async fn start(&self) -> anyhow::Result<System> {
        let ports = gateway_ports(self.port, self.gateways.into())?;
        let expected = (DEFAULT_PORT..).take(ports.len());
        if self.port.is_none() && !expected.eq(ports.iter().copied()) {
            println!("not all ports from {DEFAULT_PORT} on are free: gateways listen on {ports:?}");
        }
        let builder = Builder::new()
            .gateways(self.gateways.into())
            .workers(self.workers.into())
            .ports(ports)
            .folder(&self.data)
            .feed()
            .progress(|phase| println!("  {phase}"));
        let builder = self.settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let services = format!("{} gateways and {} workers", self.gateways, self.workers);
        if let Some(urls) = self.servers.given() {
            println!("starting {services} on the given servers");
            return builder.on(urls).await;
        }
        require(self.servers.install()).await?;
        std::fs::create_dir_all(&self.data)?;
        lock(&self.data)?;
        println!("starting MySQL, Redis and RabbitMQ in {}, then {services}", self.data.display());
        builder.on_own_servers().await
    }

    /// Plays the demo, says that it is ready, and restarts processes. Ends with an error only.
    async fn stay(&self, system: &mut System, begin: Instant) -> anyhow::Result<()> {
        if self.demo {
            let begin = Instant::now();
            testbed::demo::show(&system.ws_urls()).await?;
            println!("  demo done after {:.1} s", begin.elapsed().as_secs_f64());
        }
        let has_page =
            !self.settings.iter().any(|(key, value)| key == "IM__WEB__ENABLED" && value == "false");
        println!("\n{}", Ready::of(system, begin.elapsed(), has_page));
        match supervise(system, |incident| println!("\n{} {incident}", time_of_day())).await? {}
    }
}

/// Such as `21:07:33 UTC`.
fn time_of_day() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    format!("{:02}:{:02}:{:02} UTC", now / 3600 % 24, now / 60 % 60, now % 60)
}

/// Two systems on one folder would destroy each other's data. The kernel releases the lock at the end of this process.
fn lock(data: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::options().create(true).append(true).open(data.join("lock"))?;
    let Ok(lock) = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) else {
        anyhow::bail!("another system runs on {}: stop it, or give another --data folder", data.display());
    };
    std::mem::forget(lock);
    Ok(())
}
