//! Files of keys that are read again while the gateway runs.

use std::sync::Arc;
use std::time::Duration;

use shared::config::ConfigError;
use shared::shutdown::Shutdown;

/// What is logged when the files become unusable, and when they are usable again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) unusable: &'static str,
    pub(crate) usable: &'static str,
}

/// Calls `read`, which may block, every `interval` until the stop. An error is logged once, until another one comes.
pub(crate) async fn reread(
    interval: Duration,
    stop: &Shutdown,
    said: Said,
    read: impl Fn() -> Result<(), ConfigError> + Send + Sync + 'static,
) {
    let read = Arc::new(read);
    let mut last_error = None;
    while stop.sleep(interval).await {
        let read = Arc::clone(&read);
        let result = tokio::task::spawn_blocking(move || read()).await;
        let error = result.ok().and_then(Result::err).map(|error| error.to_string());
        if error != last_error {
            match &error {
                Some(error) => tracing::error!(%error, "{}", said.unusable),
                None => tracing::info!("{}", said.usable),
            }
            last_error = error;
        }
    }
}
