//! A message as clients see it, in pulls and pushes alike.

use serde::Serialize;
use shared::ids::Seq;

/// Borrowed from a row or an event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MessageView<'a> {
    /// The sender's id for it.
    pub msg_id: &'a str,
    /// Its number.
    pub seq: Seq,
    /// Who sent it.
    pub sender_id: &'a str,
    /// What it says.
    pub content: &'a str,
    /// 1 text, 2 image.
    pub msg_type: u32,
    /// Milliseconds since the Unix epoch.
    pub send_time: i64,
}
