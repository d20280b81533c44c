//! `[messages]`: what messages may have beside their content, and how they may be changed.

use serde::Deserialize;

/// `[messages]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Messages {
    /// Users edit their messages. While workers of version 0.1 run, this and the following must be off, because they cannot
    /// store such messages: upgrade the workers first.
    pub edits: bool,
    /// Messages have `meta`, and types of the app's own (100 to 255).
    pub meta: bool,
    /// Messages answer others (`reply_to`).
    pub replies: bool,
    /// Messages mention users.
    pub mentions: bool,
    /// Users react to messages.
    pub reactions: bool,
    /// Messages are pinned.
    pub pins: bool,
}

impl Default for Messages {
    fn default() -> Self {
        Self { edits: true, meta: true, replies: true, mentions: true, reactions: true, pins: true }
    }
}
