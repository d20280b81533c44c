//! What connections need of the configuration.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

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

/// The settings of connections that begin now. Those that are open keep what they began with.
#[derive(Debug)]
pub(crate) struct PresentSettings {
    /// Of the whole process; they never change.
    pub(crate) features: Features,
    now: RwLock<Arc<ConnectionSettings>>,
}

impl PresentSettings {
    /// The settings that `config` has.
    pub(crate) fn of(config: &Config) -> Self {
        let settings = ConnectionSettings::of(config);
        Self { features: settings.features.clone(), now: RwLock::new(Arc::new(settings)) }
    }

    /// Those of a connection that begins now.
    pub(crate) fn now(&self) -> Arc<ConnectionSettings> {
        Arc::clone(&self.now.read())
    }

    /// Applies `config` to connections that begin from now on.
    pub(crate) fn set(&self, config: &Config) {
        *self.now.write() = Arc::new(ConnectionSettings::of(config));
    }
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
