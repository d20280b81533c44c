//! MySQL 8+ and MariaDB 10.6+: the pool, the migrations, and every statement of the project.
//!
//! Statements have few fixed shapes (1, 2, 4 … 256 rows): each is prepared once per connection. A statement whose text
//! varied with the number of rows would push others out of the cache, and closing one costs a delayed TCP
//! acknowledgement of about 40 ms with sqlx 0.9.0, which does not set TCP_NODELAY.

pub mod access;
pub mod accounts;
pub mod blocks;
pub mod conversations;
pub mod groups;
mod kept;
pub mod members;
mod migrate;
mod pool;
pub mod positions;
pub mod revocations;
pub mod senders;
pub mod settings;
mod shapes;
pub mod timeline;
mod transaction;
pub mod unread;

pub use migrate::migrate;
pub use pool::{ConnectError, Ping, connect, is_away};
pub use transaction::{TxError, TxFuture, is_duplicate_key, is_lock_conflict, run_tx};

pub use kept::{Connection, Pool};
/// What a statement may fail with.
pub use sqlx::Error;
/// A connection with a transaction open on it, see [`run_tx`].
pub type Tx = sqlx::MySqlConnection;
