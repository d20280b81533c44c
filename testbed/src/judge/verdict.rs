//! The verdict of the judge.

use std::fmt;

/// Violations, by promise. All are 0 if every promise was kept.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// Acknowledged messages that were checked.
    pub acked: usize,
    /// Acknowledged, and not in the conversation.
    pub lost: usize,
    /// In the conversation more than once.
    pub doubled: usize,
    /// Stored under another sequence number than a retry is told.
    pub misnumbered: usize,
    /// Stored under another sequence number than the first reply said, and a retry is told the new one: allowed in repairs.
    pub renumbered: usize,
    /// Stored with another content.
    pub altered: usize,
    /// In the conversation, and sent by nobody.
    pub foreign: usize,
    /// Sequence numbers that do not rise strictly within a list.
    pub unordered: usize,
    /// Messages of one sender in another order than they were sent in.
    pub reordered: usize,
    /// Gateways whose list differs from that of the first one.
    pub different: usize,
    /// Messages that do not show what the edits and reactions after them say.
    pub stale: usize,
    /// Messages that appeared at or below a cursor that a client had been given.
    pub undercut: usize,
    /// Users whose devices do not show the last message that they have not read, or show one that they have.
    #[serde(default)]
    pub unnotified: usize,
    /// One example of each kind of violation.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let Self {
            lost,
            doubled,
            misnumbered,
            altered,
            foreign,
            unordered,
            reordered,
            different,
            stale,
            undercut,
            unnotified,
            ..
        } = self;
        lost + doubled
            + misnumbered
            + altered
            + foreign
            + unordered
            + reordered
            + different
            + stale
            + undercut
            + unnotified
            == 0
    }

    /// A device does not show what it should: `why`.
    pub fn unnotified(&mut self, why: &str) {
        self.record(|v| &mut v.unnotified, || format!("notifications: {why}"));
    }

    pub(super) fn record(
        &mut self,
        count: impl Fn(&mut Self) -> &mut usize,
        example: impl FnOnce() -> String,
    ) {
        let count = count(self);
        *count += 1;
        if *count == 1 {
            self.examples.push(example());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} acked, {} renumbered, lost {}, doubled {}, misnumbered {}, altered {}, foreign {}, unordered {}, reordered {}, \
             different {}, stale {}, undercut {}, unnotified {}",
            if self.is_good() { "kept" } else { "BROKEN" },
            self.acked,
            self.renumbered,
            self.lost,
            self.doubled,
            self.misnumbered,
            self.altered,
            self.foreign,
            self.unordered,
            self.reordered,
            self.different,
            self.stale,
            self.undercut,
            self.unnotified
        )?;
        self.examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}
