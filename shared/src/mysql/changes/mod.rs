//! What change entries change: edits, reactions, pins, mentions.
//!
//! A commit reads [`ChangeFacts`] under the lock of the conversation's row, decides in memory, and writes [`ChangeWrites`]
//! in the same transaction. Readers find the result in the rows of the messages themselves and in `reaction_summary`.

mod read;
mod values;
mod view;
mod write;

pub use read::read;
pub(in crate::mysql) use values::EVERYONE;
pub use values::{AddedReaction, ChangeFacts, ChangeQuery, ChangeWrites, ReactionQuery};
pub(super) use view::add_reactions;
pub use view::{Reacted, mentions_above, pins, reactions_after, remove_old_unchanged};
pub use write::{insert_unchanged, write};
