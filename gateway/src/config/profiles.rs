//! `[profiles]`: what users and groups show of themselves.

use serde::Deserialize;

/// `[profiles]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// Users have profiles (`/api/users`), and groups a notice and `meta`. Must be equal on all gateways.
    pub enabled: bool,
    /// How often a user may change its profile per minute, through one gateway; 0 for no limit.
    pub changes_per_minute: u32,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { enabled: true, changes_per_minute: 10 }
    }
}
