//! `system_entry`: entries of timelines about changes of groups, between the change and the timeline.
//!
//! A row is written in the transaction of its change. A gateway sends it like a message and removes the row once the entry
//! is stored; a row that stays, because the gateway died, is sent by another gateway. The id of the message is the same each
//! time, so that the timeline has it once.

mod entry;
mod table;

pub use entry::{SystemChange, SystemEntry};
pub(crate) use table::insert;
pub use table::{EntryId, UnsentEntry, of_group, overdue, remove};
