//! The answers to requests that the rule of permissions denies, and to changes of groups that fail.

use shared::ids::UserId;
use shared::permission::Denied;

use super::api_error::ApiError;

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let message = sentence(denied);
        match denied.code() {
            400 => Self::Malformed(message),
            404 => Self::NotFound(message),
            409 => Self::Conflict(message),
            _ => Self::Forbidden(message),
        }
    }
}

/// 404: the member to change is not in the group.
#[must_use]
pub fn no_such_member() -> ApiError {
    ApiError::NotFound("this user is not a member of the group".to_owned())
}

/// Ids that a sentence names; more are counted only.
const NAMED_MAX: usize = 10;

/// 403: users who are to be added have blocked the caller.
#[must_use]
pub fn blocked_by(users: &[UserId]) -> ApiError {
    let mut named: Vec<&str> = users.iter().take(NAMED_MAX).map(UserId::as_str).collect();
    let more = format!("{} more", users.len().saturating_sub(NAMED_MAX));
    if users.len() > NAMED_MAX {
        named.push(&more);
    }
    let named = named.join(", ");
    ApiError::Forbidden(format!("these users do not let you add them to groups, leave them out: {named}"))
}

/// 404: the user is not invited.
#[must_use]
pub fn no_invitation() -> ApiError {
    ApiError::NotFound("you are not invited into this group, or not any more".to_owned())
}

/// 409: a user has too many open invitations.
#[must_use]
pub fn too_many_invitations(user: &UserId, max: i64) -> ApiError {
    ApiError::Conflict(format!("{user} has {max} open invitations already: leave this user out"))
}

/// 409: the name of a new group is taken.
#[must_use]
pub fn group_exists() -> ApiError {
    ApiError::Conflict("there is a group of that name already: choose another conversation_id".to_owned())
}

/// 409: the group would have more members than `members_max`.
#[must_use]
pub fn group_full(members_max: u32) -> ApiError {
    ApiError::Conflict(format!("a group has at most {members_max} members"))
}

fn sentence(denied: Denied) -> String {
    match denied {
        Denied::NoGroup => "there is no such group: check conversation_id",
        Denied::NotMember => "you are not a member of this group: ask to be added",
        Denied::NotParticipant => "you are not one of the two users of this private conversation",
        Denied::Blocked => "this user does not accept messages from you",
        Denied::Muted { until } if until > 0 && until < i64::MAX => {
            return format!("you are muted in this group until {until} (ms since 1970)");
        }
        Denied::Muted { .. } => "you are muted in this group",
        Denied::GroupMuted => "this group is muted: only its owner and admins may send",
        Denied::GroupNotOpen => "this group is not open: ask to be added",
        Denied::NothingToRecall => "there is no message with this seq: check payload.recall_seq",
        Denied::RecallOfRecall => "a recall cannot be recalled",
        Denied::IdReused => {
            "you have used this msg_id for a message of another kind: send it with a new msg_id"
        }
        Denied::NotSender => "only the sender, or an owner or admin of the group, may recall this message",
        Denied::RecallExpired { limit_ms } => {
            return format!("a message can be recalled for {} minutes only", limit_ms / 60_000);
        }
        Denied::NoTarget => "there is no message with this seq that you may see and that can be changed so",
        Denied::NothingToReply => {
            "there is no message with this seq that you may see and answer: check payload.reply_to"
        }
        Denied::EditNeedsSender => "only its sender edits a message",
        Denied::NotEditable => "messages of this type cannot be edited",
        Denied::EditExpired { limit_ms } => {
            return format!("a message can be edited for {} minutes only", limit_ms.div_ceil(60_000));
        }
        Denied::TargetRecalled => "this message was recalled",
        Denied::ReactionsFull => "this message has 20 different reactions: use one of them",
        Denied::PinNeedsAdmin => "only the owner and admins pin messages of a group",
        Denied::PinsFull => "this conversation has 50 pins: take one off first",
        Denied::FileGone => "a file of this message was recalled or removed meanwhile: upload it again",
        Denied::EveryoneNeedsAdmin => {
            "only the owner and admins mention everyone in a group of more than 100 members"
        }
        Denied::UpdateNeedsAdmin => "only the owner and admins change a group",
        Denied::AddNeedsAdmin => "only the owner and admins add members",
        Denied::DismissNeedsOwner => "only the owner dismisses a group",
        Denied::RolesNeedOwner => "only the owner assigns roles",
        Denied::OwnerKeepsRole => {
            "the owner's role cannot be changed: give another member the role owner instead"
        }
        Denied::OwnerCannotLeave => {
            "the owner cannot leave: give another member the role owner first, or dismiss the group"
        }
        Denied::RemoveNeedsHigherRole => "only someone with a higher role removes this member",
        Denied::MuteNeedsHigherRole => "only someone with a higher role mutes this member",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denial_has_a_sentence_of_its_own_and_keeps_its_code() {
        let mut sentences: Vec<String> = Denied::ALL.into_iter().map(sentence).collect();
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!(sentences.len(), Denied::ALL.len());
        for denied in Denied::ALL {
            assert_eq!(ApiError::from(denied).code(), denied.code(), "{denied:?}");
        }
    }

    #[test]
    fn limits_are_named() {
        assert!(sentence(Denied::RecallExpired { limit_ms: 120_000 }).contains("2 minutes"));
        assert!(sentence(Denied::Muted { until: 1_700_000_000_000 }).contains("until 1700000000000"));
    }
}
