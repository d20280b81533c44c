//! `loadtest stack exec`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::stack::{
    AMQP_ENV, Install, MYSQL_ENV, MysqlServer, RabbitServer, TemporaryFolder, remove_abandoned_folders,
    require_for_chaos,
};
use tokio::process::{Child, Command};

use super::orphans;
use crate::command::interrupted;

/// A test runner needs a moment to end its tests.
const END_TIMEOUT: Duration = Duration::from_secs(15);

/// Start MySQL and RabbitMQ, run a program with their addresses in its environment, and stop them.
///
/// Ends with the program's exit code. Ctrl-C ends the program, all processes that it has started, and the servers; no
/// temporary folder stays behind.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true)]
    program: Vec<String>,
}

/// The servers, and the folder of their data, which is removed after they have ended.
struct Servers {
    mysql: MysqlServer,
    rabbit: RabbitServer,
    _folder: TemporaryFolder,
}

impl Exec {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let stop = interrupted();
        tokio::pin!(stop);
        // Dropped before its end, the start ends everything that it has started.
        let mut servers = tokio::select! {
            started = self.start() => started?,
            stopped = &mut stop => {
                stopped?;
                return Ok(ExitCode::FAILURE);
            }
        };
        orphans::adopt()?;
        // In a terminal the program stays in the foreground group, which receives Ctrl-C as a whole. Otherwise it gets a
        // group of its own, so that a signal reaches its children too.
        let own_group = !std::io::stdin().is_terminal();
        let mut program = self.program(&servers, own_group)?;
        let code = tokio::select! {
            status = program.wait() => status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
            stopped = &mut stop => {
                stopped?;
                end(&mut program, own_group).await?;
                1
            }
        };
        orphans::kill_all(&servers.processes()).await;
        tokio::join!(servers.rabbit.stop(), servers.mysql.stop());
        drop(servers);
        // Of tests that were killed.
        remove_abandoned_folders();
        Ok(ExitCode::from(code))
    }

    async fn start(&self) -> anyhow::Result<Servers> {
        require_for_chaos(Install::when(self.install)).await?;
        let begin = Instant::now();
        println!("starting MySQL and RabbitMQ for the tests");
        let folder = TemporaryFolder::new()?;
        let (mysql, rabbit) = (folder.path().join("mysql"), folder.path().join("rabbitmq"));
        let (mysql, rabbit) = tokio::try_join!(MysqlServer::start(&mysql), RabbitServer::start(&rabbit))?;
        println!("MySQL and RabbitMQ ready after {:.1} s", begin.elapsed().as_secs_f64());
        Ok(Servers { mysql, rabbit, _folder: folder })
    }

    fn program(&self, servers: &Servers, own_group: bool) -> anyhow::Result<Child> {
        // The kernel sends it a signal if this process is killed. It takes the thread that starts a child for its parent:
        // this is the main thread, which lives as long as the process.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--"])
            .args(&self.program)
            .env(MYSQL_ENV, servers.mysql.url())
            .env(AMQP_ENV, servers.rabbit.url())
            .kill_on_drop(true);
        if own_group {
            command.process_group(0);
        }
        command.spawn().with_context(|| format!("starting {} with setpriv", self.program[0]))
    }
}

impl Servers {
    fn processes(&self) -> Vec<u32> {
        let node = self.rabbit.processes().map(|process| process.id());
        self.mysql.process().map(|process| process.id()).into_iter().chain(node).collect()
    }
}

/// SIGTERM, then SIGKILL; to the child's whole group if it has one of its own.
async fn end(child: &mut Child, own_group: bool) -> anyhow::Result<()> {
    let Some(id) = child.id() else { return Ok(()) };
    let id = i32::try_from(id)?;
    let target = Pid::from_raw(if own_group { -id } else { id });
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It may have ended at this moment.
        let _ = kill(target, signal);
        if let Ok(status) = tokio::time::timeout(END_TIMEOUT, child.wait()).await {
            status?;
            return Ok(());
        }
    }
    Ok(())
}
