//! The users of a conversation, as a commit reads them.

use ahash::AHashMap;

use super::membership::MemberStatus;
use super::rule::Relation;
use crate::conversation::{Conversation, Kind};
use crate::ids::UserId;

/// The users of one conversation, as a commit reads them under the lock of the conversation's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roster {
    /// The two users of a private conversation.
    Private {
        /// Those of the two whom the other one has blocked.
        blocked: Vec<UserId>,
    },
    /// The members of a group.
    Group(GroupRoster),
    /// The group does not exist or was dismissed.
    NoGroup,
}

/// The members of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupRoster {
    /// Only the owner and admins may send.
    pub is_muted: bool,
    /// The group gets no inbox entries.
    pub is_large: bool,
    /// All members; of a large group only the users that were asked about, with `None` for each that is not a member.
    pub members: AHashMap<UserId, Option<MemberStatus>>,
}

impl Roster {
    /// The relation of `user` to `conversation`, whose roster this is.
    #[must_use]
    pub fn relation(&self, conversation: &Conversation, user: &UserId) -> Relation {
        match self {
            Self::NoGroup => Relation::NoGroup,
            Self::Private { blocked } => match conversation.kind() {
                Kind::Private(lo, hi) if user.as_str() == lo || user.as_str() == hi => {
                    Relation::Participant { is_blocked: blocked.contains(user) }
                }
                Kind::Private(..) | Kind::Group => Relation::Stranger,
            },
            Self::Group(group) => match group.members.get(user).copied().flatten() {
                Some(status) => Relation::Member { status, group_is_muted: group.is_muted },
                None => Relation::Outsider { group_is_open: false },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTSIDER: Relation = Relation::Outsider { group_is_open: false };

    #[test]
    fn a_roster_gives_the_relation_of_each_user() {
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|id| UserId::parse(id).unwrap());
        let chat = Conversation::between(&alice, &bob);
        let private = Roster::Private { blocked: vec![bob.clone()] };
        assert_eq!(private.relation(&chat, &alice), Relation::Participant { is_blocked: false });
        assert_eq!(private.relation(&chat, &bob), Relation::Participant { is_blocked: true });
        assert_eq!(private.relation(&chat, &carol), Relation::Stranger);
        let group = Conversation::from_key("group_1").unwrap();
        let members = AHashMap::from_iter([(alice.clone(), Some(MemberStatus::NEW)), (bob.clone(), None)]);
        let roster = Roster::Group(GroupRoster { is_muted: true, is_large: true, members });
        assert_eq!(
            roster.relation(&group, &alice),
            Relation::Member { status: MemberStatus::NEW, group_is_muted: true }
        );
        assert_eq!([&bob, &carol].map(|user| roster.relation(&group, user)), [OUTSIDER; 2]);
        assert_eq!(Roster::NoGroup.relation(&group, &alice), Relation::NoGroup);
    }
}
