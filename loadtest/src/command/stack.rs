//! `loadtest stack`: the launcher.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::stack::{Builder, Install, MysqlServer, RabbitServer, System, Urls, require, require_for_chaos};
use tokio::process::{Child, Command};

use super::interrupted;

#[derive(Debug, Subcommand)]
pub(crate) enum Stack {
    /// Start servers, gateways and workers, and stay until Ctrl-C or SIGTERM.
    Up(Up),
    /// Start MySQL and RabbitMQ once, run a program that tests against them, and stop them.
    Exec(Exec),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[arg(long, default_value_t = 2)]
    gateways: usize,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// The first gateway's port, if it is free; the others follow.
    #[arg(long, default_value_t = 8081)]
    port: u16,
    /// Where data and logs are kept from one start to the next.
    #[arg(long, default_value = ".im")]
    data: PathBuf,
    /// Let a short conversation go through before saying that it is ready.
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    servers: Where,
}

/// Which servers to use.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
    /// Use this MySQL, with an existing schema: mysql://user:password@host:3306/schema
    #[arg(long, requires = "redis_url")]
    mysql_url: Option<String>,
    /// Use this Redis.
    #[arg(long, requires = "amqp_url")]
    redis_url: Option<String>,
    /// Use this RabbitMQ.
    #[arg(long, requires = "mysql_url")]
    amqp_url: Option<String>,
}

impl Where {
    pub(crate) fn given(&self) -> Option<Urls> {
        let (mysql, redis, amqp) = (self.mysql_url.clone()?, self.redis_url.clone()?, self.amqp_url.clone()?);
        Some(Urls { mysql, redis, amqp })
    }

    pub(crate) fn install(&self) -> Install {
        if self.install { Install::Allowed } else { Install::No }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true)]
    program: Vec<String>,
}

impl Stack {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run().await,
            Self::Exec(exec) => exec.run().await,
        }
    }
}

impl Up {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let stop = interrupted();
        tokio::pin!(stop);
        // Dropped half way, the start takes with it whatever it had started.
        let mut system = tokio::select! {
            started = self.start() => started?,
            stopped = &mut stop => {
                stopped?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        if self.demo {
            let gateways = system.ws_urls();
            tokio::select! {
                shown = testbed::demo::show(&gateways) => shown?,
                stopped = &mut stop => {
                    stopped?;
                    system.stop().await;
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
        ready(&mut system);
        stop.await?;
        println!("stopping");
        system.stop().await;
        Ok(ExitCode::SUCCESS)
    }

    async fn start(&self) -> anyhow::Result<System> {
        let builder = Builder::new()
            .gateways(self.gateways)
            .workers(self.workers)
            .first_port(self.port)
            .folder(&self.data);
        if let Some(urls) = self.servers.given() {
            println!("starting {} gateways and {} workers on the given servers", self.gateways, self.workers);
            return builder.on(urls).await;
        }
        require(self.servers.install())?;
        std::fs::create_dir_all(&self.data)?;
        lock(&self.data)?;
        println!("starting MySQL, Redis and RabbitMQ in {}, then gateways and workers", self.data.display());
        builder.on_own_servers().await
    }
}

/// Two systems on one folder would destroy each other's data. The lock is the process's and ends with it.
fn lock(data: &std::path::Path) -> anyhow::Result<()> {
    let file = std::fs::File::options().create(true).append(true).open(data.join("lock"))?;
    let Ok(lock) = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) else {
        anyhow::bail!("another system runs on {}: stop it, or give another --data folder", data.display());
    };
    // Until the end of the process.
    std::mem::forget(lock);
    Ok(())
}

fn ready(system: &mut System) {
    let urls = system.ws_urls();
    println!("\nready");
    for url in &urls {
        println!("  {url}   {}", url.replace("ws://", "http://").replace("/ws", "/readyz"));
    }
    println!("\noperator's key (X-Api-Key), for calls under /api: {}", system.operator_key());
    println!("\nconnect with any WebSocket client, for example");
    println!("  websocat '{}?user_id=carol'", urls[0]);
    println!("and send");
    println!(r#"  {{"cmd":2,"msg_id":"m1","conversation_id":"group_demo","payload":{{"content":"hello"}}}}"#);
    println!(r#"  {{"cmd":3,"conversation_id":"group_demo","cursor_seq":0}}"#);
    println!("\nlogs are in {}; Ctrl-C stops everything", system.logs().display());
}

impl Exec {
    async fn run(self) -> anyhow::Result<ExitCode> {
        require_for_chaos(if self.install { Install::Allowed } else { Install::No })?;
        let stop = interrupted();
        tokio::pin!(stop);
        let folder = tempfile::tempdir()?;
        println!("starting MySQL and RabbitMQ for the tests");
        let (mysql, rabbit) = (folder.path().join("mysql"), folder.path().join("rabbitmq"));
        let servers = async { tokio::try_join!(MysqlServer::start(&mysql), RabbitServer::start(&rabbit)) };
        let (mut mysql, mut rabbit) = tokio::select! {
            started = servers => started?,
            stopped = &mut stop => {
                stopped?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .env(testbed::stack::MYSQL_ENV, mysql.url())
            .env(testbed::stack::AMQP_ENV, rabbit.url())
            .kill_on_drop(true);
        // In a terminal it stays in the foreground group, which Ctrl-C reaches as a whole. Otherwise it gets a group of
        // its own, so that a signal reaches what it has started too.
        let own_group = !std::io::stdin().is_terminal();
        if own_group {
            command.process_group(0);
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program[0]))?;
        let code = tokio::select! {
            status = child.wait() => status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
            stopped = &mut stop => {
                stopped?;
                end(&mut child, own_group).await?;
                1
            }
        };
        tokio::join!(rabbit.stop(), mysql.stop());
        Ok(ExitCode::from(code))
    }
}

/// A test runner needs a moment to end its tests, which own processes themselves.
const CHILD_PATIENCE: Duration = Duration::from_secs(15);

/// SIGTERM, then SIGKILL; to the child's whole group if it has one of its own.
async fn end(child: &mut Child, own_group: bool) -> anyhow::Result<()> {
    let Some(id) = child.id() else { return Ok(()) };
    let id = i32::try_from(id)?;
    let target = Pid::from_raw(if own_group { -id } else { id });
    for (signal, patience) in [(Signal::SIGTERM, CHILD_PATIENCE), (Signal::SIGKILL, CHILD_PATIENCE)] {
        // It may have ended in this moment.
        let _ = kill(target, signal);
        if let Ok(status) = tokio::time::timeout(patience, child.wait()).await {
            status?;
            return Ok(());
        }
    }
    Ok(())
}
