//! The names of all keys. The conversation key, or the user, is in braces, so that all keys of one script call about it are
//! in one slot of a cluster.

use std::net::IpAddr;

use crate::conversation::Conversation;
use crate::ids::{DeviceId, MsgId, UserId};

/// Counter: the last sequence number that was assigned in a conversation. It never expires.
#[must_use]
pub(super) fn seq(conversation: &Conversation) -> String {
    format!("im:seq:{{{}}}", conversation.key())
}

/// The sequence number of a message. The length of the sender comes first, so that another sender and id never give the
/// same key.
#[must_use]
pub(super) fn sent(conversation: &Conversation, sender: &UserId, msg_id: &MsgId) -> String {
    format!("im:sent:{{{}}}:{}:{sender}:{msg_id}", conversation.key(), sender.as_str().len())
}

/// Sorted set: the conversations of a user by version, see [`inbox`](super::inbox).
#[must_use]
pub(super) fn inbox(user: &UserId) -> String {
    format!("im:inbox:{{{user}}}")
}

/// Hash: the `last_seq` of each conversation in a user's inbox, and properties of the inbox.
#[must_use]
pub(super) fn inbox_heads(user: &UserId) -> String {
    format!("im:heads:{{{user}}}")
}

/// Hash: the group head of a large group, which is its version and its `last_seq`.
#[must_use]
pub(super) fn group_head(group: &Conversation) -> String {
    format!("im:head:{{{}}}", group.key())
}

/// The rank of the newest connection of a device, see [`device_ranks`](super::device_ranks).
#[must_use]
pub(super) fn device_rank(user: &UserId, device: &DeviceId) -> String {
    format!("im:device:{{{user}}}:{device}")
}

/// Sorted set: live workers by the time of their last heartbeat.
pub(super) const WORKERS: &str = "im:workers";
/// Sorted set: the live workers that know shares, see [`LiveWorkers`](super::liveness_registry::LiveWorkers).
pub(super) const WORKERS_WITH_SHARES: &str = "im:workers:shares";
/// Sorted set: live gateways by the time of their last heartbeat.
pub(super) const GATEWAYS: &str = "im:gateways";

/// The address of the metrics of a live process, see [`process_addresses`](super::process_addresses).
#[must_use]
pub(super) fn process_address(process: &str) -> String {
    format!("im:address:{process}")
}

/// The last revision of the entries of a gateway in [`online`].
#[must_use]
pub(super) fn presence_revision(gateway: &str) -> String {
    format!("im:presence:{gateway}")
}

/// Hash: the gateways to which a user is connected.
#[must_use]
pub(super) fn online(user: &UserId) -> String {
    format!("im:online:{{{user}}}")
}

/// Bucket: attempts to log in from an address (IPv6: the network), see [`login_attempts`](super::login_attempts).
#[must_use]
pub(super) fn login_address(address: IpAddr) -> String {
    format!("im:login-address:{{{address}}}")
}

/// Bucket: attempts to log in to an account from an address.
#[must_use]
pub(super) fn login_account_address(user: &UserId, address: IpAddr) -> String {
    format!("im:login:{{{user}}}:{address}")
}

/// Bucket: attempts to log in to an account from addresses that it does not know.
#[must_use]
pub(super) fn login_account(user: &UserId) -> String {
    format!("im:login:{{{user}}}")
}

/// Sorted set: the addresses from which a login to an account succeeded, by the time of the last success.
#[must_use]
pub(super) fn login_known_addresses(user: &UserId) -> String {
    format!("im:login-known:{{{user}}}")
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
