//! An orderly stop: one token requests it, one tracker counts the tasks that still run. And the end of a task without
//! which a process cannot work.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The handle of every long-lived task. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    process: Arc<Process>,
    /// Its stop does not stop the process.
    is_child: bool,
}

/// What all handles of a process share.
#[derive(Debug, Default)]
struct Process {
    is_stopping: AtomicBool,
    failed: CancellationToken,
    failure: OnceLock<String>,
}

impl Shutdown {
    /// A handle without tasks; no stop is requested.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that [`finish`](Self::finish) waits for. If it panics, nothing but this task ends.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Spawns a task without which the process cannot work. If it panics, or ends before a stop is requested, the process
    /// [fails](Self::failed). `name` is the subject of the log line.
    pub fn spawn_essential<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future + Send + 'static,
    {
        let (process, name) = (Arc::clone(&self.process), name.into());
        self.tasks.spawn(async move {
            let is_panic = AssertUnwindSafe(task).catch_unwind().await.is_err();
            if is_panic || !process.is_stopping.load(Ordering::Relaxed) {
                let end = if is_panic { "panicked" } else { "ended before the stop" };
                tracing::error!(task.name = %name, "The task \"{name}\" {end}; the process stops");
                let _ = process.failure.set(format!("the task \"{name}\" {end}"));
                process.failed.cancel();
            }
        });
    }

    /// Resolves when an essential task has ended without a stop, and says which one and how.
    pub async fn failed(&self) -> String {
        self.process.failed.cancelled().await;
        self.process.failure.get().cloned().unwrap_or_default()
    }

    /// A handle that stops when this one stops, and can be stopped alone. Both share the tracker.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
            tasks: self.tasks.clone(),
            process: Arc::clone(&self.process),
            is_child: true,
        }
    }

    /// A handle of the same process with a stop and a tracker of its own.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { process: Arc::clone(&self.process), ..Self::default() }
    }

    /// Requests the stop.
    pub fn stop(&self) {
        if !self.is_child {
            self.process.is_stopping.store(true, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_fails_if_an_essential_task_returns_or_panics() {
        for (task, end) in [
            (async { panic!("a bug") }.boxed(), "the task \"a\" panicked"),
            (async {}.boxed(), "the task \"a\" ended before the stop"),
        ] {
            let one = Shutdown::new();
            let (other, child) = (one.sibling(), one.child());
            child.spawn_essential("a", task);
            assert_eq!(other.failed().await, end);
            // The end of the other tasks is part of the stop, and changes nothing.
            other.spawn_essential("b", async {});
            assert!(one.finish(Duration::from_secs(1)).await);
            assert_eq!(one.failed().await, end);
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_at_the_stop_is_no_failure() {
        let (listening, working) = {
            let one = Shutdown::new();
            (one.sibling(), one)
        };
        working.spawn_essential("fed by another one", {
            let listening = listening.clone();
            async move { listening.stopping().await }
        });
        // The stop of a child stops its own tasks only.
        listening.child().stop();
        listening.stop();
        assert!(working.finish(Duration::from_secs(1)).await);
        assert!(working.failed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_panic_of_another_task_ends_only_that_task() {
        let shutdown = Shutdown::new();
        assert!(shutdown.spawn(async { panic!("a bug") }).await.is_err());
        assert!(shutdown.failed().now_or_never().is_none());
    }
}
