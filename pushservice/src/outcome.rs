//! What became of a message that was handed to a push service.

use std::time::Duration;

/// What a push service did with a message, and what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The push service has it. Whether the device shows it is not known.
    Accepted,
    /// The subscription has ended: remove it. The text is for the log.
    Gone(String),
    /// The push service is unavailable or overloaded: send the message again.
    Retry {
        /// The shortest delay, if the push service names one; otherwise the caller backs off as it does elsewhere.
        after: Option<Duration>,
        /// For the log.
        reason: String,
    },
    /// The message, the credentials or the configuration are at fault, and another attempt ends in the same way. The text
    /// says what an operator can do.
    Rejected(String),
}

impl Outcome {
    /// The value of a label `outcome` of a metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Gone(_) => "gone",
            Self::Retry { .. } => "retry",
            Self::Rejected(_) => "rejected",
        }
    }

    /// A failure before the push service answered.
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }
}
