//! Pages that several wanted, kept as they were sent.
//!
//! A timeline changes only together with the last number of its conversation: a message is added, or a recall, which is
//! a message too, empties another one in the same transaction. So a page is still what a read would give as long as that
//! number is what it was *before* the page was read, and asking for that number, for many conversations in one statement,
//! is much cheaper than reading the page. Nothing else is believed: no event, no clock.

use ahash::AHashMap;
use parking_lot::Mutex;
use shared::ids::Seq;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::shared_reads::Page;

/// What all kept pages may take; beyond, all are forgotten.
const BYTES_MAX: usize = 32 << 20;

/// The pages that are kept.
#[derive(Debug, Default)]
pub(super) struct RecentPages {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With the last number of the conversation before the page was read.
    pages: AHashMap<Page, (Seq, Utf8Bytes)>,
    bytes: usize,
}

impl RecentPages {
    /// Whether it is worth asking for the last number.
    pub(super) fn has(&self, page: &Page) -> bool {
        self.kept.lock().pages.contains_key(page)
    }

    /// The page, if its conversation still ends at `head`; otherwise it is forgotten.
    pub(super) fn get(&self, page: &Page, head: Seq) -> Option<Utf8Bytes> {
        let mut kept = self.kept.lock();
        let (read_at, reply) = kept.pages.get(page)?;
        if *read_at == head {
            return Some(reply.clone());
        }
        kept.remove(page);
        None
    }

    /// Keeps a page that was read after its conversation ended at `head`.
    pub(super) fn keep(&self, page: Page, head: Seq, reply: Utf8Bytes) {
        let mut kept = self.kept.lock();
        kept.remove(&page);
        if kept.bytes + reply.len() > BYTES_MAX {
            *kept = Kept::default();
        }
        kept.bytes += reply.len();
        kept.pages.insert(page, (head, reply));
    }
}

impl Kept {
    fn remove(&mut self, page: &Page) {
        if let Some((_, reply)) = self.pages.remove(page) {
            self.bytes -= reply.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_given_again_until_its_conversation_has_moved_on() {
        let recent = RecentPages::default();
        assert!(recent.get(&Page::after(1), Seq(7)).is_none());
        recent.keep(Page::after(1), Seq(7), "seven".into());
        assert_eq!(recent.get(&Page::after(1), Seq(7)).as_deref(), Some("seven"));
        assert!(recent.has(&Page::after(1)) && recent.get(&Page::after(2), Seq(7)).is_none());
        recent.keep(Page::after(2), Seq(8), "eight".into());
        assert!(recent.get(&Page::after(1), Seq(8)).is_none() && !recent.has(&Page::after(1)));
        assert_eq!(recent.get(&Page::after(2), Seq(8)).as_deref(), Some("eight"));
        recent.keep(Page::after(2), Seq(9), "nine".into());
        assert_eq!(recent.kept.lock().bytes, 4);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let recent = RecentPages::default();
        let long: Utf8Bytes = "x".repeat(BYTES_MAX / 10).into();
        for cursor in 0..100 {
            recent.keep(Page::after(cursor), Seq(7), long.clone());
            let kept = recent.kept.lock();
            assert!(kept.bytes <= BYTES_MAX && kept.bytes == kept.pages.len() * long.len());
        }
        assert!(recent.has(&Page::after(99)));
    }
}
