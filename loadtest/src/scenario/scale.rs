//! The size of a scenario.

use serde::Serialize;

/// The size of a scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Scale {
    /// Share of its connections, groups and messages; the goals hold for 1.
    pub factor: f64,
    /// Messages per second that are taken as the peak by scenarios that need one; without it, a burst measures it first.
    pub peak: Option<f64>,
}

impl Scale {
    /// `full`, scaled; at least 1.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    pub fn of(&self, full: usize) -> usize {
        ((full as f64 * self.factor).round() as usize).max(1)
    }
}
