//! `notification`: what users are to be notified of, and what their devices show.
//!
//! [`audience`] says who may be notified of a message. [`plan`] writes rows with the place of the reader of the change feed,
//! [`rows`] reads and changes them while they are sent, and [`unread`] reads what a notification shows.

mod audience;
mod plan;
mod rows;
mod unread;

pub use audience::{Candidate, of_group, of_private_chats};
pub use plan::{Planned, changed, recalled, upsert};
pub use rows::{
    DueRow, Found, Key, Overdue, Sent, begin, clock, due, look_again, overdue, remove, removed_members, sent,
    sent_meanwhile, touch,
};
pub use unread::{Unread, unread};
