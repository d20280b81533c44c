//! One function per key. The conversation's key, or the user, stands in braces, so that all keys of one script call about
//! it are in one slot of a cluster.

use crate::conversation::Conversation;
use crate::ids::{MsgId, UserId};

/// Counter: the last number given out in a conversation. Never expires.
#[must_use]
pub fn seq(conversation: &Conversation) -> String {
    format!("im:seq:{{{}}}", conversation.key())
}

/// The number that a message got. The sender's length comes first, so that no other sender and id make the same key.
#[must_use]
pub fn sent(conversation: &Conversation, sender: &UserId, msg_id: &MsgId) -> String {
    format!("im:sent:{{{}}}:{}:{sender}:{msg_id}", conversation.key(), sender.as_str().len())
}

/// Sorted set: the conversations of a user by version, see [`inbox`](super::inbox).
#[must_use]
pub fn inbox(user: &UserId) -> String {
    format!("im:inbox:{{{user}}}")
}

/// Hash: the last number of each conversation in a user's inbox, and facts about the inbox.
#[must_use]
pub fn inbox_heads(user: &UserId) -> String {
    format!("im:heads:{{{user}}}")
}

/// Hash: version and last number of a large group.
#[must_use]
pub fn group_head(group: &Conversation) -> String {
    format!("im:head:{{{}}}", group.key())
}

/// Sorted set: live workers by the time of their last sign of life.
pub const WORKERS: &str = "im:workers";
/// Sorted set: live gateways, likewise.
pub const GATEWAYS: &str = "im:gateways";

/// The last revision of a gateway's entries in [`online`].
#[must_use]
pub fn presence_revision(gateway: &str) -> String {
    format!("im:presence:{gateway}")
}

/// Hash: the gateways to which a user is connected.
#[must_use]
pub fn online(user: &UserId) -> String {
    format!("im:online:{{{user}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_conversation_share_its_tag_and_differ_by_sender() {
        let group = Conversation::from_key("group_1").unwrap();
        let key = |sender, id| sent(&group, &UserId::parse(sender).unwrap(), &MsgId::parse(id).unwrap());
        assert_eq!(seq(&group), "im:seq:{group_1}");
        assert_eq!(key("bob", "m:1"), "im:sent:{group_1}:3:bob:m:1");
        assert_ne!(key("a", "b:c"), key("a:b", "c"));
    }
}
