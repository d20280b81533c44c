//! The change feed: one row per transaction that changed a timeline, a group or a profile, in an order that never changes.
//!
//! A row belongs to one shard of the feed and has the next position of it. A conversation and a user always belong to the
//! same shard, so a reader that follows a shard from position to position sees what happened to each of them in its order.
//!
//! Pure: the statements are in [`mysql::feed`](crate::mysql::feed).

mod body;
mod cursor;
mod cursors;
mod event;
mod page;
mod reader;
mod rows;
mod shards;

pub use body::{Corrected, FeedBody, GroupChanged, RefusedMessage, SeqRange, USERS_MAX};
pub use cursor::{BadCursor, Cursor};
pub use cursors::{BadCursors, Cursors};
pub use event::{Event, EventKind};
pub use page::{Found, Page, Plan, Wanted, plan, plan_for};
pub use reader::{GroupSight, Reader};
pub use rows::{NewRow, Row};
pub use shards::FeedShards;
