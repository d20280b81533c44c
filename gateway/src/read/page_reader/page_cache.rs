//! Rendered pages that several clients requested.
//!
//! A page is stored with the `last_seq` that its conversation had *before* the page was read, and is served from cache
//! only if `last_seq` is still the same. That is exact, because a conversation changes only together with its `last_seq`:
//! a new message raises it, and so does a recall, which is a message too and blanks its target in the same transaction.
//! Loading `last_seq` for many conversations with one statement costs much less than reading pages. The cache depends on
//! no event and no clock.

use ahash::AHashMap;
use parking_lot::Mutex;
use shared::ids::Seq;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::page_key::PageKey;

/// Size of all cached pages. A page that would exceed it empties the cache first.
const CACHE_BYTES_MAX: usize = 32 << 20;

#[derive(Debug, Default)]
pub(super) struct PageCache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// With the `last_seq` of the conversation before the page was read.
    pages: AHashMap<PageKey, (Seq, Utf8Bytes)>,
    bytes: usize,
}

impl PageCache {
    /// Whether a revalidation is worth its cost.
    pub(super) fn contains(&self, key: &PageKey) -> bool {
        self.state.lock().pages.contains_key(key)
    }

    /// The page, if its conversation still ends at `last_seq`; otherwise it is removed.
    pub(super) fn get(&self, key: &PageKey, last_seq: Seq) -> Option<Utf8Bytes> {
        let mut state = self.state.lock();
        let (valid_at, page) = state.pages.get(key)?;
        if *valid_at == last_seq {
            return Some(page.clone());
        }
        state.remove(key);
        None
    }

    /// Stores a page that was read after its conversation ended at `last_seq`.
    pub(super) fn insert(&self, key: PageKey, last_seq: Seq, page: Utf8Bytes) {
        let mut state = self.state.lock();
        state.remove(&key);
        if state.bytes + page.len() > CACHE_BYTES_MAX {
            *state = State::default();
        }
        state.bytes += page.len();
        state.pages.insert(key, (last_seq, page));
    }
}

impl State {
    fn remove(&mut self, key: &PageKey) {
        if let Some((_, page)) = self.pages.remove(key) {
            self.bytes -= page.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_served_until_its_conversation_changes() {
        let cache = PageCache::default();
        assert!(cache.get(&PageKey::after(1), Seq(7)).is_none());
        cache.insert(PageKey::after(1), Seq(7), "seven".into());
        assert_eq!(cache.get(&PageKey::after(1), Seq(7)).as_deref(), Some("seven"));
        assert!(cache.contains(&PageKey::after(1)) && cache.get(&PageKey::after(2), Seq(7)).is_none());
        cache.insert(PageKey::after(2), Seq(8), "eight".into());
        assert!(cache.get(&PageKey::after(1), Seq(8)).is_none() && !cache.contains(&PageKey::after(1)));
        assert_eq!(cache.get(&PageKey::after(2), Seq(8)).as_deref(), Some("eight"));
        cache.insert(PageKey::after(2), Seq(9), "nine".into());
        assert_eq!(cache.state.lock().bytes, 4);
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = PageCache::default();
        let long: Utf8Bytes = "x".repeat(CACHE_BYTES_MAX / 10).into();
        for cursor in 0..100 {
            cache.insert(PageKey::after(cursor), Seq(7), long.clone());
            let state = cache.state.lock();
            assert!(state.bytes <= CACHE_BYTES_MAX && state.bytes == state.pages.len() * long.len());
        }
        assert!(cache.contains(&PageKey::after(99)));
    }
}
