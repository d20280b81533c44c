//! `[feed]`: the change feed for the app's own servers. Of gateways and workers.

use serde::Deserialize;

use super::ConfigError;
use crate::shard::ShardLayout;

/// `[feed]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feed {
    /// Every transaction that changes a timeline, a group or a profile adds a row to the change feed. Must be equal on all
    /// gateways and workers: what a process commits with `false` is missing in the feed.
    pub enabled: bool,
    /// How long rows are kept, in seconds. A reader that stays away for longer must begin anew.
    pub keep_s: u32,
    /// Number of shards of the feed, stored when the feed is first switched on; 0: as many as there are work queues then.
    /// Afterwards it is ignored.
    pub shards: u16,
}

impl Default for Feed {
    fn default() -> Self {
        Self { enabled: false, keep_s: 604_800, shards: 0 }
    }
}

/// From a minute to a year.
const KEEP_S: std::ops::RangeInclusive<u32> = 60..=31_536_000;

impl Feed {
    /// Checks all keys.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !KEEP_S.contains(&self.keep_s) {
            return Err(ConfigError::key("feed.keep_s", "is not in 60..=31536000"));
        }
        if self.shards > ShardLayout::MAX {
            return Err(ConfigError::key("feed.shards", format!("is not in 0..={}", ShardLayout::MAX)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_value_is_reported_with_its_key() {
        Feed::default().check().unwrap();
        let keep = Feed { keep_s: 59, ..Feed::default() }.check().unwrap_err();
        assert!(keep.to_string().contains("feed.keep_s"), "{keep}");
        let shards = Feed { shards: 1_025, ..Feed::default() }.check().unwrap_err();
        assert!(shards.to_string().contains("feed.shards"), "{shards}");
    }
}
