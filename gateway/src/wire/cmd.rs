//! What a frame asks for or answers.

/// The values of `cmd`.
#[derive(Debug)]
pub struct Cmd;

#[expect(missing_docs, reason = "the names are those of docs/protocol.md")]
impl Cmd {
    /// In the reply to a request whose `cmd` is unreadable.
    pub const UNKNOWN: i64 = -1;
    pub const HEARTBEAT: i64 = 0;
    pub const LOGIN: i64 = 1;
    pub const CHAT: i64 = 2;
    pub const PULL: i64 = 3;
    pub const ACK: i64 = 4;
    pub const PUSH: i64 = 5;
    pub const SYNC: i64 = 6;
    pub const EVENT: i64 = 7;
    pub const TYPING: i64 = 8;
    pub const WATCH: i64 = 9;
}
