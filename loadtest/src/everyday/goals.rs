//! What each rate may cost on two cores.

use serde::Serialize;

/// Limits of one rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EverydayGoal {
    /// Messages per second.
    pub rate: f64,
    /// Milliseconds to the acknowledgement: p50, p99.
    pub ack_ms: (f64, f64),
    /// Milliseconds to the push at another member: p50, p99.
    pub push_ms: (f64, f64),
    /// Microseconds of processor time per message in gateways, workers and servers.
    pub cpu_us: f64,
}

/// The goals, by rate.
pub const GOALS: [EverydayGoal; 4] = [
    EverydayGoal { rate: 500.0, ack_ms: (1.3, 4.0), push_ms: (2.5, 7.0), cpu_us: 1_300.0 },
    EverydayGoal { rate: 2_000.0, ack_ms: (3.0, 10.0), push_ms: (6.0, 15.0), cpu_us: 400.0 },
    EverydayGoal { rate: 6_000.0, ack_ms: (6.0, 25.0), push_ms: (10.0, 35.0), cpu_us: 160.0 },
    EverydayGoal { rate: 18_000.0, ack_ms: (10.0, 40.0), push_ms: (20.0, 70.0), cpu_us: 60.0 },
];

/// Share of a core that gateways and workers may use at rest.
pub const REST_GOAL: f64 = 0.03;

/// The goal of a rate, if there is one.
pub(super) fn goal_of(rate: f64) -> Option<EverydayGoal> {
    GOALS.into_iter().find(|goal| (goal.rate - rate).abs() < 0.5)
}
