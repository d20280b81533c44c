//! A client of the public protocol.

mod connection;
mod http;
mod packet;
mod reader;
mod sender;

pub use connection::{Client, Ended, Synced, websocket};
pub use http::Http;
pub use packet::{Chat, Entry, Packet, StoredMessage, chat_frame, pull_frame};
pub use reader::{Reader, Reading};
pub use sender::{Pace, Progress, Report, Sender, Sent, messages_in};
