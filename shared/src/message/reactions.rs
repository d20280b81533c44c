//! The reactions to a message, as readers see them.

use serde::{Deserialize, Serialize};

use crate::ids::{Seq, UserId};

/// Users of one reaction that a page shows.
pub const SHOWN_USERS_MAX: usize = 20;

/// One reaction to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionSummary {
    /// The reaction.
    pub reaction: String,
    /// Users whose reaction stands.
    pub total: u32,
    /// The first of them, in the order of reacting: at least [`SHOWN_USERS_MAX`], or all.
    pub first: Vec<FirstUser>,
}

/// A user with the sequence number of the entry that added the reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstUser(pub UserId, pub Seq);
