//! The protocol as it is: frames, one connection, single calls over HTTP.
//!
//! For programs that need every frame and every refusal, such as load generators and tests. Nothing here is repeated,
//! reordered or hidden.

mod connection;
mod error;
mod frame;
mod http;
mod inspect;
mod reply;
mod socket;

pub use connection::{ANSWER_TIMEOUT, Connection};
pub use error::{ConnectError, Ended, Error};
pub use frame::{Attachment, Chat, Entry, Packet, Reactions, StoredMessage, chat_frame, pull_frame};
pub use http::{Caller, Http, http_base};
pub use inspect::{Exchange, Inspector, Received};
pub use reply::{Refused, Reply};
pub use socket::{Socket, Tls, websocket};
