//! Reads: pulls (cmd 3), read positions (cmd 4), syncs (cmd 6), and heartbeats that ask for changes.
//!
//! * [`reads`] answers requests, each within a deadline.
//! * [`page_reader`] reads pages of conversations.
//! * [`moved_positions`] announces moved read positions with their unread counts.
//! * [`read_positions`] moves and lists read positions.
//! * [`sync`] lists a user's conversations, and those that changed since a cursor.
//! * [`unread_total`] counts the unread messages of all conversations of a user.
//! * [`tail_cache`] has the newest messages of conversations, for unread counts.

mod moved_positions;
mod page_reader;
mod read_positions;
mod reads;
mod sync;
mod tail_cache;
mod unread_total;

pub(crate) use reads::{ReadDeps, ReadSettings, Reads};
