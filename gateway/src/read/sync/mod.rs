//! A user's list of conversations: what changed since a sync cursor (cmd 6), and everything, newest change first.
//!
//! * [`conversation_lists`] reads the two sources of a list, the inbox and the heads of large groups, and puts the steps
//!   together.
//! * [`merge`] makes one page of both and decides the cursor. Pure.
//! * [`inbox_builder`] rebuilds an inbox that is missing from MySQL.
//! * [`entries`] turns the merged page into what the client sees of each conversation.

mod conversation_lists;
mod entries;
mod inbox_builder;
mod merge;

pub(super) use conversation_lists::ConversationLists;
