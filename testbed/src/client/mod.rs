//! Clients of the public protocol: the crate `im-client` with checks and measurements.

mod answers;
mod backoff;
pub(crate) mod conformance;
mod connection;
mod credentials;
mod exact_timer;
mod feed_reader;
mod home;
mod http;
mod mix;
mod pace;
mod reader;
mod refusals;
mod report;
mod sender;
mod sending;
mod trust;
mod webhook_receiver;

pub use connection::{Client, Synced};
pub use credentials::Credentials;
pub use feed_reader::{FeedEvent, FeedReader};
pub use http::Http;
pub use im_client::protocol::{
    Caller, Chat, ConnectError, Ended, Entry, Error, Packet, Reactions, Socket, StoredMessage, chat_frame,
    http_base, pull_frame,
};
pub use mix::{Kind, Targets};
pub use pace::{Assignment, Pace};
pub use reader::{Reader, Reading};
pub use refusals::{Refusal, Refusals, Request, cause};
pub use report::{Progress, Report, messages_in};
pub use sender::{PushObserver, Sender, Sent};
pub use trust::{tls_trouble, trust, websocket};
pub use webhook_receiver::{Behavior, Received, WebhookReceiver};
