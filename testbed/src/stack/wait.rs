//! Waits for a condition.

use std::time::{Duration, Instant};

/// For one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// A process has ended, so that waiting for it is useless.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Dead(pub(super) String);

/// Calls `attempt` until it succeeds.
///
/// # Errors
/// After `timeout`, with `what` and the last error; at once if that is [`Dead`].
pub async fn wait_for(
    what: &str,
    timeout: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        // A server that accepts a connection and never answers must not block this.
        let result = tokio::time::timeout(ATTEMPT_TIMEOUT, attempt()).await;
        let Err(error) = result.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer"))) else { return Ok(()) };
        if error.is::<Dead>() {
            return Err(error);
        }
        if Instant::now() >= deadline {
            return Err(error.context(format!("{what} was not ready within {} s", timeout.as_secs())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
