//! `[conversations]` and `[presence]`: what users set for their conversations, and whom they watch.

use serde::Deserialize;

/// `[conversations]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conversations {
    /// Users set up conversations for themselves (mute, pin, archive, draft) and clear them. Must be equal on all gateways.
    pub settings: bool,
}

impl Default for Conversations {
    fn default() -> Self {
        Self { settings: true }
    }
}

/// `[presence]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {
    /// Clients watch users (cmd 9) and get events when these come and go.
    pub events: bool,
    /// Different users that the clients of this gateway watch together; beyond that, cmd 9 gets 503. Each of them is read
    /// from Redis once per second.
    pub watched_users_max: usize,
}

impl Default for Presence {
    fn default() -> Self {
        Self { events: true, watched_users_max: 10_000 }
    }
}
