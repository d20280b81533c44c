//! Web Push: RFC 8030 (protocol), RFC 8188 and 8291 (encryption), RFC 8292 (VAPID). UnifiedPush is the same on the side of
//! a server.

mod content_encoding;
mod encryption;
mod payload;
mod sender;
mod vapid;

pub(crate) use sender::{Target, WebPushSender};
pub use vapid::VapidKeyPair;
