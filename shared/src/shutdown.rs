//! Stopping in order: one token says "stop", one tracker knows who is still at work.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to every long-lived task. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing runs and nothing was asked to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that [`finish`](Self::finish) waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// A later stage: asked to stop when this one is, but can be asked alone; shares the tracker.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: self.tasks.clone() }
    }

    /// Asks everyone to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when [`stop`](Self::stop) was called.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// Runs `work`, or gives `None` as soon as a stop is asked for; `work` is dropped then.
    pub async fn run_until_stopped<F: Future>(&self, work: F) -> Option<F::Output> {
        self.token.run_until_cancelled(work).await
    }

    /// Sleeps; false if a stop was asked for meanwhile.
    pub async fn sleep(&self, delay: Duration) -> bool {
        self.run_until_stopped(tokio::time::sleep(delay)).await.is_some()
    }

    /// Asks to stop and waits for all tasks, at most `grace`; false if some still ran then.
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
