//! One gateway or worker.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::process::Process;
use super::wait_for;

/// How long it may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to drain.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A gateway or worker with a port of its own, that can be stopped in many ways and started again.
#[derive(Debug)]
pub struct Service {
    name: String,
    program: PathBuf,
    log: PathBuf,
    port: u16,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl Service {
    pub(super) async fn start(
        name: String,
        program: PathBuf,
        log: PathBuf,
        port: u16,
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let mut service = Self { name, program, log, port, environment, process: None };
        service.start_again().await?;
        Ok(service)
    }

    /// Starts it (again), on the same port, and waits until it is ready.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.ready(START_PATIENCE).await
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// If there is no such program.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let process = Process::start(&self.name, &self.program, &self.log, |command| {
            // Settings of the caller's own shell are not meant for it.
            for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("IM__")) {
                command.env_remove(key);
            }
            command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// With its answer, and the end of its log if it has ended.
    pub async fn ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        let url = format!("{}/readyz", self.http_url());
        let process = self.process.as_mut().context("it was not started")?;
        wait_for(&self.name, patience, async || {
            process.must_run()?;
            let answer = reqwest::get(&url).await?;
            let (ready, text) = (answer.status().is_success(), answer.text().await?);
            anyhow::ensure!(ready, "{}", text.trim());
            Ok(())
        })
        .await
    }

    /// Changes its environment from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.unset(key);
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Takes back [`set`](Self::set).
    pub fn unset(&mut self, key: &str) {
        self.environment.retain(|(known, _)| known != key);
    }

    /// Makes the next start one of another program.
    pub(super) fn replace(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits for the end; `None` if it had to be killed.
    pub async fn terminate(&mut self) -> Option<ExitStatus> {
        self.process.take()?.terminate(STOP_PATIENCE).await
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub fn freeze(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::SIGSTOP);
        }
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::SIGCONT);
        }
    }

    /// Its process, if it runs.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// As in the list of processes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its HTTP is.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where clients of a gateway connect.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }
}
