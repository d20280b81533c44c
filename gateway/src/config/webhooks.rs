//! `[webhooks]`: calls of endpoints that are told what happened.

use std::time::Duration;

use serde::Deserialize;
use shared::config::ConfigError;

/// `[webhooks]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// Longest time of one call of a webhook, from its begin to the status of the answer.
    pub timeout_ms: u64,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { timeout_ms: 10_000 }
    }
}

impl Webhooks {
    /// The longest time of one call.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Checks all keys.
    ///
    /// # Errors
    /// Names the key.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(100..=60_000).contains(&self.timeout_ms) {
            return Err(ConfigError::key("webhooks.timeout_ms", "is not in 100..=60000"));
        }
        Ok(())
    }
}
