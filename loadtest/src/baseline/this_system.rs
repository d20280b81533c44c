//! This system, through its gateways over WebSockets, with the senders and the judge of `loadtest burst`.

use std::sync::Arc;

use crate::scenario::{self, Deployment, Load};
use testbed::client::Report;

use super::rounds::{Round, Work};
use testbed::meter::Used;

/// Messages per second before the first measurement.
const FIRST_GUESS: f64 = 2_000.0;
/// The same for one message at a time.
const FIRST_GUESS_ALONE: f64 = 200.0;

/// Its load is a number of messages instead of seconds: the rate of the last round times the seconds.
pub(super) struct ThisSystem {
    deployment: Deployment,
    together: f64,
    alone: f64,
}

impl ThisSystem {
    pub(super) fn new(deployment: Deployment) -> Self {
        Self { deployment, together: FIRST_GUESS, alone: FIRST_GUESS_ALONE }
    }

    pub(super) async fn round(
        &mut self,
        work: &Work,
        name: &str,
        used: impl FnMut() -> Used,
    ) -> anyhow::Result<Round> {
        let senders = work.groups * work.senders_per_group;
        let rate = if senders == 1 { &mut self.alone } else { &mut self.together };
        let load = Load {
            groups: work.groups,
            listeners: 0,
            senders: work.senders_per_group,
            messages: messages(*rate, work.seconds).max(senders),
            window: work.window,
            size: work.size,
            stored: false,
            rate: None,
        };
        let report = Arc::new(Report::default());
        let figures = Box::pin(scenario::run(&load, &self.deployment, name, &report, used)).await?;
        anyhow::ensure!(figures.verdict.is_good(), "this system broke a promise: {}", figures.verdict);
        *rate = figures.acked_per_second;
        Ok(Round {
            acked: figures.acked,
            acked_per_second: figures.acked_per_second,
            stored_per_second: figures.persisted_per_second,
            backlog: 0,
            drained_per_second: None,
            ack_ms: figures.ack_ms,
            cpu_seconds_per_1000: figures.cpu_seconds_per_1000,
        })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturating")]
fn messages(per_second: f64, seconds: f64) -> usize {
    (per_second * seconds).ceil() as usize
}
