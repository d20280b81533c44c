//! An orderly stop: one token requests it, one tracker counts the tasks that still run.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The handle of every long-lived task. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A handle without tasks; no stop is requested.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that [`finish`](Self::finish) waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// A handle that stops when this one stops, and can be stopped alone. Both share the tracker.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: self.tasks.clone() }
    }

    /// Requests the stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Resolves when a stop is requested.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// Runs `work`; returns `None` and drops it as soon as a stop is requested.
    pub async fn run_until_stopped<F: Future>(&self, work: F) -> Option<F::Output> {
        self.token.run_until_cancelled(work).await
    }

    /// Sleeps; returns false if a stop was requested in the meantime.
    pub async fn sleep(&self, delay: Duration) -> bool {
        self.run_until_stopped(tokio::time::sleep(delay)).await.is_some()
    }

    /// Requests the stop and waits for all tasks, at most for `grace`; returns false if some still run.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.stop();
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}

/// Resolves at SIGTERM or SIGINT (Ctrl-C).
///
/// # Errors
/// If the handlers cannot be installed.
pub async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
