//! A client of the public protocol.

mod backoff;
pub(crate) mod conformance;
mod connection;
mod credentials;
mod home;
mod http;
mod pace;
mod packet;
mod reader;
mod refusals;
mod reply;
mod report;
mod sender;

pub use connection::{Client, Ended, Synced, websocket};
pub use credentials::{ConnectError, Credentials};
pub use http::{Caller, Http, http_base};
pub use pace::{Assignment, Pace};
pub use packet::{Chat, Entry, Packet, StoredMessage, chat_frame, pull_frame};
pub use reader::{Reader, Reading};
pub use refusals::{Refusal, Refusals, Request, cause};
pub use report::{Progress, Report, messages_in};
pub use sender::{Sender, Sent};
