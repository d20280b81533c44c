//! Conversations as an operator names them.

use shared::conversation::Conversation;
use shared::ids::UserId;

/// Parses a conversation: its key (`group_1`, `private_alice bob`), or its name for clients (`private_alice_bob`) if that can
/// be read in one way only.
///
/// # Errors
/// Says how to write it.
pub(crate) fn conversation(text: &str) -> anyhow::Result<Conversation> {
    let by_key = Conversation::from_key(text);
    let Some(pair) = text.strip_prefix("private_") else { return Ok(by_key?) };
    if let Ok(conversation) = by_key {
        return Ok(conversation);
    }
    // Keys are in byte order; operators need not know.
    if let Some((a, b)) = pair.split_once(' ') {
        return Ok(Conversation::between(&UserId::parse(a)?, &UserId::parse(b)?));
    }
    let readings = pair.match_indices('_').filter_map(|(at, _)| {
        let (a, b) = (UserId::parse(&pair[..at]).ok()?, UserId::parse(&pair[at + 1..]).ok()?);
        let conversation = Conversation::between(&a, &b);
        // The canonical name has the users in order.
        (conversation.wire() == text).then_some(conversation)
    });
    let readings: Vec<Conversation> = readings.collect();
    match &readings[..] {
        [one] => Ok(one.clone()),
        [] => anyhow::bail!(
            "{text} names no private conversation: write private_USER_USER with the two users in byte order, or 'private_USER USER'"
        ),
        several => {
            let keys: Vec<String> = several.iter().map(|one| format!("'{}'", one.key())).collect();
            anyhow::bail!("{text} can be read in several ways: write {}", keys.join(" or "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_read_by_its_key_or_by_a_name_with_one_reading() {
        for (text, key) in [
            ("group_1", "group_1"),
            ("private_alice bob", "private_alice bob"),
            ("private_bob alice", "private_alice bob"),
            ("private_alice_bob", "private_alice bob"),
            ("private_a_b_a", "private_a b_a"),
        ] {
            assert_eq!(conversation(text).map(|c| c.key().to_owned()).unwrap(), key, "{text}");
        }
        let several = conversation("private_a_b_c").unwrap_err().to_string();
        assert!(several.contains("'private_a b_c'") && several.contains("'private_a_b c'"), "{several}");
        for text in ["private_bob_alice", "private_alice", "room_1", "", "private_a b c"] {
            assert!(conversation(text).is_err(), "{text}");
        }
    }
}
