//! The event that announces a change to other gateways.

use proto::v1;
use shared::conversation::Conversation;
use shared::ids::UserId;
use shared::mysql::groups::Changed;

/// The event of a change; `None` if nothing was changed.
pub(super) fn event(group: &Conversation, changed: &Changed) -> Option<v1::MembershipChanged> {
    let ids = |users: &[UserId]| users.iter().map(|user| user.as_str().to_owned()).collect();
    Some(v1::MembershipChanged {
        conversation: group.key().to_owned(),
        joined: ids(&changed.joined),
        left: ids(&changed.left),
        version: changed.version?,
        joined_seq: changed.history.join_seq.0,
        joined_floor: changed.history.floor.0,
        merges_head: changed.merges_head,
        dismissed: false,
        // The memberships of the new members have to be read.
        settings: changed.joined_muted,
    })
}
