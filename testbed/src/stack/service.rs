//! One gateway or worker.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::process::Process;
use super::settings::PREFIX;
use super::wait_for;

/// Until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Until it has drained and ended.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A gateway or worker with ports of its own, which stay the same when it is started again.
#[derive(Debug)]
pub struct Service {
    name: String,
    program: PathBuf,
    log: PathBuf,
    /// Of clients; the operator's of a worker, which has no clients.
    port: u16,
    /// Of the operator.
    ops_port: u16,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl Service {
    pub(super) async fn start(
        name: String,
        program: PathBuf,
        log: PathBuf,
        (port, ops_port): (u16, u16),
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let mut service = Self { name, program, log, port, ops_port, environment, process: None };
        service.start_again().await?;
        Ok(service)
    }

    /// Starts it (again), on the same ports, and waits until it is ready.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.ready(START_TIMEOUT).await
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let process = Process::start(&self.name, &self.program, &self.log, |command| {
            // Settings in the environment of the caller do not apply to it.
            for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with(PREFIX)) {
                command.env_remove(key);
            }
            command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// After `timeout`, with the answer of `/readyz`; with the end of its log if it has ended.
    pub async fn ready(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let name = self.name.clone();
        wait_for(&name, timeout, async || self.check_ready().await).await
    }

    /// Asks `/readyz` once.
    ///
    /// # Errors
    /// With the answer if it is not ready; with the end of its log if it has ended.
    pub(super) async fn check_ready(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().context("it was not started")?.must_run()?;
        let answer = match reqwest::get(format!("{}/readyz", self.ops_url())).await {
            Ok(answer) => answer,
            // A gateway of an earlier version answers at the port of clients only.
            Err(_) => reqwest::get(format!("{}/readyz", self.http_url())).await?,
        };
        let (ready, text) = (answer.status().is_success(), answer.text().await?);
        anyhow::ensure!(ready, "{}", text.trim());
        Ok(())
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.unset(key);
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Removes an environment variable for the next start.
    pub fn unset(&mut self, key: &str) {
        self.environment.retain(|(known, _)| known != key);
    }

    /// Sets the file to which it writes standard output and standard error from the next start on.
    pub fn log_to(&mut self, log: &std::path::Path) {
        log.clone_into(&mut self.log);
    }

    /// The file with its output.
    #[must_use]
    pub fn log(&self) -> &std::path::Path {
        &self.log
    }

    /// Sets the program for the next start.
    pub(super) fn replace(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits for the end. Returns the exit status; `None` if it had to be killed.
    pub async fn terminate(&mut self) -> Option<ExitStatus> {
        self.process.take()?.terminate(STOP_TIMEOUT).await
    }

    /// SIGSTOP: its connections stay open.
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

    /// Its process, unless it was killed or terminated.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Such as `gateway 0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of its health checks and metrics.
    pub(super) fn ops_port(&self) -> u16 {
        self.ops_port
    }

    /// The address of its health checks and metrics.
    #[must_use]
    pub fn ops_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ops_port)
    }

    /// The address of its HTTP interface for clients.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address for clients of a gateway.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }
}
