//! The change feed, as the app's own servers read it.
//!
//! [`pages`] reads rows and the messages that they are about, [`heads`] lets readers at the end of a shard wait for more,
//! [`view`] is the JSON of events. [`readers`] runs the gateway's own readers.

mod heads;
mod pages;
mod readers;
mod view;

pub(crate) use pages::{ChangeFeed, Outside, ReadError, Start};
pub(crate) use readers::{FeedReader, Readers, Turn};
