//! The rows of conversations as the last commits left them.
//!
//! Pure. With them a batch is planned before its transaction begins, and one statement locks the rows, checks that they are
//! still the same and advances them. A worker that has lost its shard, or a change of members, is noticed there.

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::mysql::conversations::Head;

/// Most conversations in the cache of one shard, some 100 bytes each. Beyond, the cache is emptied.
const HEADS_MAX: usize = 100_000;

/// The rows of one shard's conversations.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadCache {
    heads: AHashMap<Conversation, Head>,
}

impl HeadCache {
    /// The row of `conversation` after the last commit, if there was one.
    #[must_use]
    pub(crate) fn get(&self, conversation: &Conversation) -> Option<Head> {
        self.heads.get(conversation).copied()
    }

    /// Records the row of `conversation` after a commit.
    pub(crate) fn insert(&mut self, conversation: &Conversation, head: Head) {
        if let Some(before) = self.heads.get_mut(conversation) {
            *before = head;
            return;
        }
        if self.heads.len() >= HEADS_MAX {
            self.heads.clear();
        }
        self.heads.insert(conversation.clone(), head);
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::Seq;

    use super::*;

    #[test]
    fn the_cache_holds_the_newest_row_of_a_conversation_and_is_bounded() {
        let mut cache = HeadCache::default();
        let group = |n: usize| Conversation::from_key(&format!("group_{n}")).unwrap();
        let head = |seq| Head { last_seq: Seq(seq), access_version: 1 };
        assert_eq!(cache.get(&group(0)), None);
        for seq in 1..3 {
            cache.insert(&group(0), head(seq));
            assert_eq!(cache.get(&group(0)), Some(head(seq)));
        }
        for n in 1..=HEADS_MAX {
            cache.insert(&group(n), head(1));
            assert!(cache.heads.len() <= HEADS_MAX);
        }
        assert_eq!(cache.get(&group(HEADS_MAX)), Some(head(1)));
    }
}
