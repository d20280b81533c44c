//! The change feed, as the app's own servers read it, and as users do.
//!
//! [`pages`] reads rows and the messages that they are about, [`heads`] lets readers at the end of a shard wait for more,
//! [`view`] is the JSON of events, [`gone`] refuses cursors whose events are removed. [`readers`] runs the gateway's own
//! readers.
//!
//! [`user_feed`] is the entrance for users. [`user_page`] makes a page of the rows that concern the user; [`tails`] has the
//! newest rows, decoded once for all users.

mod gone;
mod heads;
mod pages;
mod readers;
mod reading;
mod tails;
mod user_feed;
mod user_page;
mod view;

pub(crate) use gone::{Outside, ReadError};
pub(crate) use pages::{ChangeFeed, Start};
pub(crate) use readers::{FeedReader, Readers, Turn};
pub(crate) use user_feed::{UserFeed, UserFeedDeps, UserStart};
pub(crate) use view::EventView;
