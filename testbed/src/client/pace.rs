//! The messages of a sender, and when each is sent.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The messages of a sender.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The conversation that they go to.
    pub conversation: String,
    /// Their number; without effect on an endless pace.
    pub messages: usize,
    /// Bytes of each content.
    pub size: usize,
    /// When each is sent.
    pub pace: Pace,
}

/// When the next message goes out.
#[derive(Debug, Clone)]
pub enum Pace {
    /// As soon as fewer than this many are unanswered.
    Window(usize),
    /// At these moments after the start, whether earlier messages were answered or not. Latency counts from them.
    Schedule(Arc<[Duration]>),
    /// At these moments of each period, until it is stopped. Latency counts from them.
    Endless {
        /// Within one period, rising.
        moments: Arc<[Duration]>,
        /// The moments repeat after this time.
        period: Duration,
        /// Ends the sending of new messages.
        stop: CancellationToken,
    },
}

impl Pace {
    /// When message `n` is due, if that does not depend on answers.
    pub(super) fn due(&self, n: usize) -> Option<Duration> {
        match self {
            Self::Window(_) => None,
            Self::Schedule(moments) => moments.get(n).copied(),
            Self::Endless { moments, period, .. } => {
                let round = u32::try_from(n / moments.len()).ok()?;
                Some(*period * round + moments[n % moments.len()])
            }
        }
    }
}
