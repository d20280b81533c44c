//! What connections need of the configuration.

use std::time::Duration;

use crate::config::{Config, Timeouts};
use crate::features::Features;
use crate::outbox::OutboxLimits;

/// What connections need of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    /// Of one connection.
    pub(crate) outbox: OutboxLimits,
    /// Malformed frames in a row before a connection is closed.
    pub(crate) malformed_frames_max: u32,
    /// Connections of one user.
    pub(crate) connections_per_user_max: usize,
    /// From a request to its reply.
    pub(crate) request_deadline: Duration,
    pub(crate) timeouts: Timeouts,
    pub(crate) features: Features,
}

impl ConnectionSettings {
    pub(crate) fn of(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            outbox: OutboxLimits {
                replies: limits.requests_per_connection_max,
                reply_bytes: limits.reply_bytes_per_connection_max,
                push_bytes: limits.push_bytes_per_connection_max,
            },
            malformed_frames_max: limits.malformed_frames_max,
            connections_per_user_max: limits.connections_per_user_max,
            request_deadline: Duration::from_millis(limits.request_deadline_ms),
            timeouts: config.timeouts.clone(),
            features: Features::of(config),
        }
    }
}
