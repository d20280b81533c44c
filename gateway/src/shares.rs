//! Limits of what each key (an address) holds at the same time.

use std::hash::Hash;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

/// What each key holds. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    held: Arc<Mutex<AHashMap<K, usize>>>,
}

/// One place of a key, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Hash + Eq> {
    held: Arc<Mutex<AHashMap<K, usize>>>,
    key: K,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// Nothing is held.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { held: Arc::default() }
    }

    /// Takes one place of `key`. Returns it with the number of places that the key has held before; `None` if these are
    /// `max` or more.
    pub(crate) fn take(&self, key: &K, max: usize) -> Option<(Share<K>, usize)> {
        let mut held = self.held.lock();
        let count = held.entry(key.clone()).or_default();
        let before = *count;
        if before >= max {
            if before == 0 {
                held.remove(key);
            }
            return None;
        }
        *count += 1;
        Some((Share { held: Arc::clone(&self.held), key: key.clone() }, before))
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_holds_its_share_and_nothing_is_left_behind() {
        let shares = Shares::new();
        let first = shares.take(&"a", 2).unwrap();
        let second = shares.take(&"a", 2).unwrap();
        assert_eq!((first.1, second.1), (0, 1));
        assert!(shares.take(&"a", 2).is_none());
        let other = shares.take(&"b", 2).unwrap();
        drop(first);
        assert!(shares.take(&"a", 2).is_some());
        drop((second, other));
        assert!(shares.take(&"a", 0).is_none());
        assert!(shares.held.lock().is_empty());
    }
}
