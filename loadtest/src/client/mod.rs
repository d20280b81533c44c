//! A client of the public protocol.

mod connection;
mod http;
mod packet;
mod sender;

pub use connection::{Client, Ended, Synced, websocket};
pub use http::Http;
pub use packet::{Chat, Entry, Packet, StoredMessage, chat_frame, pull_frame};
pub(crate) use sender::messages_in;
pub use sender::{Pace, Report, Sender, Sent};
