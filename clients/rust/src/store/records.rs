//! What a store does.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

/// Why a store failed.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;
/// Records by their keys.
pub type Records = BTreeMap<String, String>;

/// Records of a client: its device, its cursors and its outbox. One store belongs to one user, and one client uses it at a
/// time.
pub trait Store: Send + Sync + 'static {
    /// All records.
    fn load(&self) -> BoxFuture<'_, Result<Records, StoreError>>;

    /// Writes all of it or nothing, durably; `None` removes a record.
    fn write(&self, changes: BTreeMap<String, Option<String>>) -> BoxFuture<'_, Result<(), StoreError>>;
}
