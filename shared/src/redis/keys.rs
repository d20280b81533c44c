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

/// Matches the keys of all messages with this id, and possibly others: see [`parse_sent`].
#[must_use]
pub(super) fn sent_pattern(msg_id: &MsgId) -> String {
    format!("im:sent:{{*}}:*:*:{}", escaped(msg_id.as_str()))
}

/// The conversation and the sender of a [`sent`] key with this id; `None` for another key.
#[must_use]
pub(super) fn parse_sent(key: &str, msg_id: &MsgId) -> Option<(Conversation, UserId)> {
    let (conversation, rest) = key.strip_prefix("im:sent:{")?.split_once("}:")?;
    let (length, rest) = rest.split_once(':')?;
    let (sender, rest) = rest.split_at_checked(length.parse().ok()?)?;
    let parsed = Conversation::from_key(conversation).ok().zip(UserId::parse(sender).ok());
    parsed.filter(|_| rest.strip_prefix(':') == Some(msg_id.as_str()))
}

/// `text` as a pattern that matches only itself.
#[must_use]
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
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

/// Matches the keys of all [`inbox_heads`].
pub(super) const INBOX_HEADS_PATTERN: &str = "im:heads:{*}";

/// The user of an [`inbox_heads`] key.
#[must_use]
pub(super) fn inbox_owner(key: &str) -> &str {
    key.strip_prefix("im:heads:{").and_then(|rest| rest.strip_suffix('}')).unwrap_or(key)
}

/// Hash: the group head of a large group, which is its version and its `last_seq`.
#[must_use]
pub(super) fn group_head(group: &Conversation) -> String {
    format!("im:head:{{{}}}", group.key())
}

/// The rank of the newest connection of a device, see [`device_ranks`](super::device_ranks).
#[must_use]
pub(super) fn device_rank(user: &UserId, device: &DeviceId) -> String {
    format!("{}{device}", device_prefix(user))
}

/// Begins the [`device_rank`] keys of a user.
#[must_use]
pub(super) fn device_prefix(user: &UserId) -> String {
    format!("im:device:{{{user}}}:")
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

/// The mark of a gateway, which is lost with its entries in [`online`].
#[must_use]
pub(super) fn presence_mark(gateway: &str) -> String {
    format!("im:presence:{gateway}")
}

/// The runs of the servers in which all users of a gateway are recorded, with commas between them.
#[must_use]
pub(super) fn presence_runs(gateway: &str) -> String {
    format!("im:presence-runs:{gateway}")
}

/// Hash: the gateways to which a user is connected, each with the revision of its entry.
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

    #[test]
    fn the_key_of_a_message_is_parsed_by_its_id() {
        let group = Conversation::from_key("group_1").unwrap();
        let (id, part) = (MsgId::parse("m:1").unwrap(), MsgId::parse("1").unwrap());
        for sender in ["bob", "b:o", "\u{e9}"] {
            let sender = UserId::parse(sender).unwrap();
            let key = sent(&group, &sender, &id);
            assert_eq!(parse_sent(&key, &id), Some((group.clone(), sender)), "{key}");
            assert_eq!(parse_sent(&key, &part), None, "{key}");
        }
        assert_eq!(parse_sent("im:seq:{group_1}", &id), None);
        assert_eq!(sent_pattern(&MsgId::parse("a*[b").unwrap()), "im:sent:{*}:*:*:a\\*\\[b");
        assert_eq!(inbox_owner(&inbox_heads(&UserId::parse("bob").unwrap())), "bob");
    }
}
