//! The limits of users and of the process.

use super::rate::CostRate;
use crate::config::Limits;

/// The limits of users and of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BudgetSettings {
    /// `None`: no limit.
    pub(crate) user_cost: Option<CostRate>,
    /// Reads of one user at the same time; further ones wait.
    pub(crate) user_reads_max: usize,
    /// Bytes of replies that wait for one user to read them.
    pub(crate) user_reply_bytes_max: usize,
    /// Bytes of replies that wait for all clients.
    pub(crate) reply_bytes_max: usize,
}

impl BudgetSettings {
    /// The settings that `limits` has.
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            user_cost: CostRate::new(limits.user_cost_per_second, limits.user_cost_burst),
            user_reads_max: limits.user_reads_at_once,
            user_reply_bytes_max: limits.reply_bytes_per_user_max,
            reply_bytes_max: limits.reply_bytes_max,
        }
    }
}
