//! The plan of a comparison.

use super::rounds::Work;

/// The work that is compared, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The work of all senders together.
    pub work: Work,
    /// Seconds of each round of a single sender with window 1.
    pub alone_seconds: f64,
    /// Rounds of each contender that count.
    pub rounds: usize,
    /// Connections to MySQL that the baselines share.
    pub connections: u32,
}
