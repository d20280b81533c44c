//! MySQL 8+ and MariaDB 10.6+: the pool, the migrations, and every statement of the project.
//!
//! Statements have a fixed set of sizes (1, 2, 4 … 256 rows), each prepared once per connection. A statement whose text
//! varied with the number of rows would evict others from the cache, and closing one costs a delayed TCP acknowledgement
//! of about 40 ms with sqlx 0.9.0, which does not set TCP_NODELAY.

pub mod access;
pub mod accounts;
pub mod blocks;
pub mod changes;
mod connect;
pub mod conversations;
mod fault;
pub mod feed;
pub mod files;
pub mod groups;
pub mod inspection;
pub mod look_alikes;
pub mod members;
pub mod message_ids;
mod migrate;
mod migration_lock;
mod multi_row;
pub mod notifications;
pub mod partners;
mod pool;
mod pool_executor;
pub mod positions;
pub mod profiles;
pub mod push_subscriptions;
pub mod quotas;
mod read_only;
pub mod ready;
pub mod revocations;
pub mod rosters;
mod session;
pub mod settings;
pub mod system_entries;
pub mod timeline;
mod transaction;
pub mod unread;
pub mod user_settings;
pub mod views;
pub mod webhooks;

pub use connect::{ConnectError, connect, is_unavailable};
pub use fault::Fault;
pub use migrate::{MigrationState, migrate, migrations};
pub use transaction::{
    Transaction, Tx, TxError, is_duplicate_key, is_lock_conflict, is_lock_wait_timeout, run_tx,
};

pub use pool::{Connection, Ping, Pool};
/// The error of a statement.
pub use sqlx::Error;
