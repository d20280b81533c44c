//! The wire protocol as types: requests, replies, events, errors and close codes. No sockets, clocks or stores.

pub mod api_error;
pub(crate) mod attachment;
pub mod chat;
pub mod close;
pub mod cmd;
pub mod context;
pub mod denied;
mod fields;
mod frame;
pub mod hook;
pub mod json_size;
mod json_text;
pub mod listing;
pub mod message;
pub mod name;
pub(crate) mod number;
pub(crate) mod outcome;
pub mod reply;
pub mod request;
pub(crate) mod retry_delay;
pub(crate) mod version;
mod watch;
