//! Restarts the processes of a system that end unasked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::process::Process;
use super::restart_limit::{RESTARTS_MAX, RestartLimit, WINDOW};
use super::system::System;
use super::{Dead, Service};

/// Lines of the log of a process that ended.
const LOG_LINES: usize = 10;
/// A restarted gateway or worker that is not ready after this time is killed, and restarted again.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// For one question whether a process is ready.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two checks, if no signal says that a child has ended.
const PAUSE: Duration = Duration::from_secs(1);
/// The same while a process starts.
const STARTING_PAUSE: Duration = Duration::from_millis(100);

/// The part of a system that one process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Mysql,
    Redis,
    Rabbitmq,
    Gateway(usize),
    Worker(usize),
}

/// What happened to a process.
#[derive(Debug)]
pub enum Incident {
    /// It ended unasked, and is started again.
    Ended(Ended),
    /// It is ready again.
    Restarted {
        /// Its name.
        name: String,
        /// Its new process id.
        id: u32,
        /// From the restart until it was ready.
        after: Duration,
    },
}

/// A process that ended unasked.
#[derive(Debug)]
pub struct Ended {
    name: String,
    status: ExitStatus,
    log: PathBuf,
    last_lines: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status, log, last_lines } = self;
        write!(f, "{name} ended ({status}). The last lines of its log, {}:", log.display())?;
        last_lines.lines().try_for_each(|line| write!(f, "\n  | {line}"))
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(ended) => write!(f, "{ended}\nstarting {} again", ended.name),
            Self::Restarted { name, id, after } => {
                write!(f, "{name} is ready again after {:.1} s (process {id})", after.as_secs_f64())
            }
        }
    }
}

/// Restarts each process that ends, on the same port and with the same data, and calls `report` with what happened.
///
/// # Errors
/// If a process ends once more after [three restarts](RESTARTS_MAX) within a [minute](WINDOW), or cannot be started.
pub async fn supervise(system: &mut System, report: impl Fn(Incident) + Send) -> anyhow::Result<Infallible> {
    let mut child_ended = signal(SignalKind::child())?;
    let mut supervisor = Supervisor { system, report, limits: BTreeMap::new(), starting: Vec::new() };
    loop {
        supervisor.restart_ended().await?;
        supervisor.check_starting().await;
        let pause = if supervisor.starting.is_empty() { PAUSE } else { STARTING_PAUSE };
        // A timeout is no failure: signals may be merged, and readiness has none.
        let _ = tokio::time::timeout(pause, child_ended.recv()).await;
    }
}

struct Supervisor<'s, R> {
    system: &'s mut System,
    report: R,
    limits: BTreeMap<String, RestartLimit>,
    /// Gateways and workers that were restarted and are not ready yet.
    starting: Vec<(Part, Instant)>,
}

impl<R: Fn(Incident)> Supervisor<'_, R> {
    async fn restart_ended(&mut self) -> anyhow::Result<()> {
        while let Some((part, ended)) = self.system.first_ended() {
            if !self.limits.entry(ended.name.clone()).or_default().allows(Instant::now()) {
                let (ends, seconds) = (RESTARTS_MAX + 1, WINDOW.as_secs());
                anyhow::bail!("{ended}\nIt ended {ends} times within {seconds} s: everything is stopped");
            }
            let name = ended.name.clone();
            (self.report)(Incident::Ended(ended));
            let begin = Instant::now();
            if let Some(service) = self.system.service(part) {
                service.launch()?;
                self.starting.retain(|(starting, _)| *starting != part);
                self.starting.push((part, begin));
                continue;
            }
            match self.system.start_server_again(part).await {
                Ok(()) => self.report_restart(part, name, begin),
                // It is found by the next turn of the loop.
                Err(error) if error.is::<Dead>() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn check_starting(&mut self) {
        for (part, begin) in std::mem::take(&mut self.starting) {
            let Some(service) = self.system.service(part) else { continue };
            let name = service.name().to_owned();
            let ready = tokio::time::timeout(PROBE_TIMEOUT, service.check_ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                self.report_restart(part, name, begin);
            } else if begin.elapsed() < READY_TIMEOUT {
                self.starting.push((part, begin));
            } else if let Some(process) = service.process() {
                process.signal(Signal::SIGKILL);
            }
        }
    }

    fn report_restart(&mut self, part: Part, name: String, begin: Instant) {
        let id =
            self.system.processes(part).find(|process| process.name() == name).map(|process| process.id());
        if let Some(id) = id {
            (self.report)(Incident::Restarted { name, id, after: begin.elapsed() });
        }
    }
}

impl System {
    /// The servers first: gateways and workers need them.
    fn parts(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.servers().is_some() {
            parts.extend([Part::Mysql, Part::Redis, Part::Rabbitmq]);
        }
        parts.extend((0..self.gateways.len()).map(Part::Gateway));
        parts.extend((0..self.workers.len()).map(Part::Worker));
        parts
    }

    /// The processes of `part`: RabbitMQ has a second one, its port mapper.
    fn processes(&mut self, part: Part) -> Box<dyn Iterator<Item = &mut Process> + '_> {
        match part {
            Part::Gateway(n) => Box::new(self.gateways[n].process().into_iter()),
            Part::Worker(n) => Box::new(self.workers[n].process().into_iter()),
            Part::Mysql => Box::new(self.servers().and_then(|s| s.mysql.process_mut()).into_iter()),
            Part::Redis => Box::new(self.servers().and_then(|s| s.redis.process_mut()).into_iter()),
            Part::Rabbitmq => {
                Box::new(self.servers().into_iter().flat_map(|servers| servers.rabbit.processes_mut()))
            }
        }
    }

    fn first_ended(&mut self) -> Option<(Part, Ended)> {
        self.parts().into_iter().find_map(|part| {
            self.processes(part).find_map(|process| {
                let status = process.ended()?;
                let (name, log) = (process.name().to_owned(), process.log_file().to_owned());
                Some((part, Ended { name, status, log, last_lines: process.tail(LOG_LINES) }))
            })
        })
    }

    /// `None` for a server.
    fn service(&mut self, part: Part) -> Option<&mut Service> {
        match part {
            Part::Gateway(n) => self.gateways.get_mut(n),
            Part::Worker(n) => self.workers.get_mut(n),
            Part::Mysql | Part::Redis | Part::Rabbitmq => None,
        }
    }

    async fn start_server_again(&mut self, part: Part) -> anyhow::Result<()> {
        let Some(servers) = self.servers() else { return Ok(()) };
        match part {
            Part::Mysql => servers.mysql.start_again().await,
            Part::Redis => servers.redis.start_again().await,
            Part::Rabbitmq => servers.rabbit.start_again().await,
            Part::Gateway(_) | Part::Worker(_) => Ok(()),
        }
    }
}
