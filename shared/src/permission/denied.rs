//! The reasons why an action is not allowed, and their form in events.

use proto::v1;

/// The reason why an action is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Denied {
    /// The group does not exist or was dismissed.
    NoGroup,
    /// The caller is not a member of the group.
    NotMember,
    /// The caller is not one of the two users of the private conversation.
    NotParticipant,
    /// The other user of the private conversation has blocked the caller.
    Blocked,
    /// The caller is muted.
    Muted {
        /// The end of the mute, in milliseconds since 1970.
        until: i64,
    },
    /// The group is muted: only the owner and admins may send.
    GroupMuted,
    /// The group is not open to everyone.
    GroupNotOpen,
    /// No text or image is stored under the number to recall.
    NothingToRecall,
    /// The message to recall is a recall.
    RecallOfRecall,
    /// The message to recall was sent by another user.
    NotSender,
    /// The sender has used the message id for a message of another kind, or for the recall of another message.
    IdReused,
    /// The time within which a sender may recall its message is over.
    RecallExpired {
        /// That time, in milliseconds.
        limit_ms: u64,
    },
    /// No message that can be changed so is stored under the number.
    NoTarget,
    /// No message that can be answered is stored under the number.
    NothingToReply,
    /// The message to edit was sent by another user.
    EditNeedsSender,
    /// Messages of this kind cannot be edited.
    NotEditable,
    /// The time within which a message may be edited is over.
    EditExpired {
        /// That time, in milliseconds.
        limit_ms: u64,
    },
    /// The message was recalled.
    TargetRecalled,
    /// The message has as many different reactions as it can have.
    ReactionsFull,
    /// Only the owner and admins pin messages of a group.
    PinNeedsAdmin,
    /// The conversation has as many pins as it can have.
    PinsFull,
    /// A file of the message was removed after the message was accepted.
    FileGone,
    /// Only the owner and admins mention everyone in this group.
    EveryoneNeedsAdmin,
    /// Only the owner and admins change a group.
    UpdateNeedsAdmin,
    /// Only the owner and admins add members.
    AddNeedsAdmin,
    /// Only the owner dismisses a group.
    DismissNeedsOwner,
    /// Only the owner assigns roles.
    RolesNeedOwner,
    /// The owner's role changes only by naming another owner.
    OwnerKeepsRole,
    /// The owner leaves only after naming another owner.
    OwnerCannotLeave,
    /// Only a member with a higher role removes this member.
    RemoveNeedsHigherRole,
    /// Only a member with a higher role mutes this member.
    MuteNeedsHigherRole,
}

impl Denied {
    /// The code of the client protocol.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::RecallOfRecall => 400,
            Self::IdReused => 409,
            Self::NoGroup | Self::NothingToRecall | Self::NoTarget | Self::NothingToReply => 404,
            _ => 403,
        }
    }

    /// The text that stands for this reason in [`v1::Refused`]. A gateway of an earlier version shows it to the client.
    fn event_text(self) -> &'static str {
        match self {
            Self::NoGroup => "there is no such group",
            Self::NotMember => "you are not a member of this conversation",
            Self::NotParticipant => "you are not one of the two users of this private conversation",
            Self::Blocked => "this user takes no messages from you",
            Self::Muted { .. } => MUTED,
            Self::GroupMuted => "this group is muted: only its owner and admins may send",
            Self::GroupNotOpen => "this group is not open",
            Self::NothingToRecall => "there is no message of that number to recall",
            Self::RecallOfRecall => "a recall cannot be recalled",
            Self::IdReused => "this msg_id was used for another message",
            Self::NotSender => "only its sender and the group's owner and admins may recall a message",
            Self::RecallExpired { .. } => "this message is too old to be recalled",
            Self::NoTarget => "there is no message of that number to change",
            Self::NothingToReply => "there is no message of that number to answer",
            Self::EditNeedsSender => "only its sender edits a message",
            Self::NotEditable => "messages of this type cannot be edited",
            Self::EditExpired { .. } => "this message is too old to be edited",
            Self::TargetRecalled => "this message was recalled",
            Self::ReactionsFull => "this message has 20 different reactions",
            Self::PinNeedsAdmin => "only the owner and admins pin messages",
            Self::PinsFull => "this conversation has 50 pins",
            Self::FileGone => "a file of this message was removed",
            Self::EveryoneNeedsAdmin => "only the owner and admins mention everyone",
            Self::UpdateNeedsAdmin => "only the owner and admins change a group",
            Self::AddNeedsAdmin => "only the owner and admins add members",
            Self::DismissNeedsOwner => "only the owner dismisses a group",
            Self::RolesNeedOwner => "only the owner assigns roles",
            Self::OwnerKeepsRole => "the owner's role cannot be changed",
            Self::OwnerCannotLeave => "the owner cannot leave",
            Self::RemoveNeedsHigherRole => "only a higher role removes this member",
            Self::MuteNeedsHigherRole => "only a higher role mutes this member",
        }
    }

    /// Writes the reason into an event.
    pub fn write_to(self, event: &mut v1::Refused) {
        event.code = u32::from(self.code());
        event.message = match self {
            Self::Muted { until } if until > 0 => format!("{MUTED}{UNTIL}{until}"),
            _ => self.event_text().to_owned(),
        };
    }

    /// Reads the reason from an event. The unknown text of a later version is read by its code: as
    /// [`Denied::NoGroup`] or [`Denied::NotMember`].
    #[must_use]
    pub fn read_from(event: &v1::Refused) -> Self {
        if let Some(rest) = event.message.strip_prefix(MUTED) {
            let until = rest.strip_prefix(UNTIL).and_then(|until| until.parse().ok());
            return Self::Muted { until: until.unwrap_or(0) };
        }
        let known = Self::ALL.iter().find(|denied| denied.event_text() == event.message);
        known.copied().unwrap_or(if event.code == 404 { Self::NoGroup } else { Self::NotMember })
    }

    /// All reasons.
    pub const ALL: [Self; 31] = [
        Self::NoGroup,
        Self::NotMember,
        Self::NotParticipant,
        Self::Blocked,
        Self::Muted { until: 0 },
        Self::GroupMuted,
        Self::GroupNotOpen,
        Self::NothingToRecall,
        Self::RecallOfRecall,
        Self::NotSender,
        Self::IdReused,
        Self::RecallExpired { limit_ms: 0 },
        Self::NoTarget,
        Self::NothingToReply,
        Self::EditNeedsSender,
        Self::NotEditable,
        Self::EditExpired { limit_ms: 0 },
        Self::TargetRecalled,
        Self::ReactionsFull,
        Self::PinNeedsAdmin,
        Self::PinsFull,
        Self::FileGone,
        Self::EveryoneNeedsAdmin,
        Self::UpdateNeedsAdmin,
        Self::AddNeedsAdmin,
        Self::DismissNeedsOwner,
        Self::RolesNeedOwner,
        Self::OwnerKeepsRole,
        Self::OwnerCannotLeave,
        Self::RemoveNeedsHigherRole,
        Self::MuteNeedsHigherRole,
    ];
}

const MUTED: &str = "you are muted in this group";
/// Between [`MUTED`] and the end of the mute, in milliseconds since 1970.
const UNTIL: &str = " until ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_the_same_after_an_event() {
        let muted = [Denied::Muted { until: 1_700_000_000_000 }, Denied::Muted { until: i64::MAX }];
        for denied in Denied::ALL.into_iter().chain(muted) {
            let mut event = v1::Refused::default();
            denied.write_to(&mut event);
            assert_eq!(Denied::read_from(&event), denied);
            assert_eq!(event.code, u32::from(denied.code()));
        }
        for (code, expected) in [(404, Denied::NoGroup), (403, Denied::NotMember)] {
            let event = v1::Refused { code, message: "a later reason".into(), ..v1::Refused::default() };
            assert_eq!(Denied::read_from(&event), expected);
        }
    }
}
