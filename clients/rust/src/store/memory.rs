//! A store that does not outlast its process.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::records::{Records, Store, StoreError};

/// Keeps records in memory. Clones share them, so that a later client finds what an earlier one left.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Records>>);

impl Store for MemoryStore {
    fn load(&self) -> BoxFuture<'_, Result<Records, StoreError>> {
        Box::pin(async { Ok(self.0.lock().clone()) })
    }

    fn write(&self, changes: BTreeMap<String, Option<String>>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut records = self.0.lock();
        for (key, value) in changes {
            match value {
                Some(value) => records.insert(key, value),
                None => records.remove(&key),
            };
        }
        Box::pin(async { Ok(()) })
    }
}
