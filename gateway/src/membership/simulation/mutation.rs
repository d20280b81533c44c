//! Gateways that are broken on purpose.

/// One flaw of all gateways of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Applies each change at once, whether its predecessors arrived or not.
    IgnoresGaps,
    /// Waits for missing predecessors forever.
    NeverTimesOut,
    /// Ends a reload when too many changes are held.
    StopsAfterOverflow,
    /// Takes the reading of a reload for as new as the newest change that was heard of.
    TrustsReloads,
    /// Takes the reading of a login for as new as that.
    TrustsLogins,
    /// Forgets which changes were heard of before a reading began.
    DropsMarks,
    /// Takes a reading to be about users who connected after it was asked for.
    ForgetsNewcomers,
    /// Relies on memory although events are known to be lost.
    OverlooksLoss,
    /// Does not apply the list of changes.
    IgnoresTheLog,
    /// Does not look again for ids in the list that were skipped.
    SkipsLateIds,
    /// Keeps what is known about users that disconnected.
    KeepsTheDisconnected,
    /// Does not read anything again after changes may have been removed unread.
    IgnoresMissedLog,
}

impl Mutation {
    pub(super) const ALL: [Self; 12] = [
        Self::IgnoresGaps,
        Self::NeverTimesOut,
        Self::StopsAfterOverflow,
        Self::TrustsReloads,
        Self::TrustsLogins,
        Self::DropsMarks,
        Self::ForgetsNewcomers,
        Self::OverlooksLoss,
        Self::IgnoresTheLog,
        Self::SkipsLateIds,
        Self::KeepsTheDisconnected,
        Self::IgnoresMissedLog,
    ];
}
