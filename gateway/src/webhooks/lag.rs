//! How far the webhooks of this gateway are behind, for the gauges.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::ids::unix_millis;
use shared::webhook::WebhookId;

#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    /// When the oldest event was written that is still to be received; `None` if there is none.
    oldest: Option<i64>,
    is_failing: bool,
}

/// Of each webhook and shard that this gateway reads.
#[derive(Debug, Default)]
pub(super) struct Lags(Mutex<BTreeMap<(WebhookId, u16), Entry>>);

/// What the gauges show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LagReport {
    /// Readers whose last call failed.
    pub(crate) failing: usize,
    /// The age of the oldest event that is still to be received, in seconds.
    pub(crate) lag_s: f64,
}

impl Lags {
    /// The part of a task; its end removes it.
    pub(super) fn enter(self: &Arc<Self>, id: WebhookId, shard: u16) -> Lag {
        let key = (id, shard);
        self.0.lock().insert(key.clone(), Entry::default());
        Lag { lags: Arc::clone(self), key }
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn report(&self) -> LagReport {
        let (entries, now) = (self.0.lock(), unix_millis());
        let oldest = entries.values().filter_map(|entry| entry.oldest).min();
        let lag_ms = oldest.map_or(0, |oldest| (now - oldest).max(0));
        let failing = entries.values().filter(|entry| entry.is_failing).count();
        LagReport { failing, lag_s: lag_ms as f64 / 1_000.0 }
    }
}

/// How far one task is behind.
#[derive(Debug)]
pub(super) struct Lag {
    lags: Arc<Lags>,
    key: (WebhookId, u16),
}

impl Lag {
    /// The event that was written at `oldest` is the next one; `None`: there is none.
    pub(super) fn set_oldest(&self, oldest: Option<i64>) {
        self.change(|entry| entry.oldest = oldest);
    }

    pub(super) fn set_failing(&self, is_failing: bool) {
        self.change(|entry| entry.is_failing = is_failing);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lags.0.lock().get_mut(&self.key) {
            change(entry);
        }
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.lags.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauges_show_the_oldest_event_and_the_failures_of_those_that_run() {
        let lags = Arc::new(Lags::default());
        assert_eq!(lags.report(), LagReport { failing: 0, lag_s: 0.0 });
        let (id, now) = (WebhookId::random(), unix_millis());
        let (one, other) = (lags.enter(id.clone(), 0), lags.enter(id, 1));
        one.set_oldest(Some(now - 60_000));
        one.set_failing(true);
        other.set_oldest(Some(now - 1_000));
        let report = lags.report();
        assert!(report.failing == 1 && (60.0..70.0).contains(&report.lag_s), "{report:?}");
        drop(one);
        let report = lags.report();
        assert!(report.failing == 0 && (1.0..10.0).contains(&report.lag_s), "{report:?}");
        other.set_oldest(None);
        assert_eq!(lags.report(), LagReport { failing: 0, lag_s: 0.0 });
    }
}
