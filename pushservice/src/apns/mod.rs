//! Apple Push Notification service, provider API with tokens:
//! <https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns>.

mod payload;
mod provider_token;
mod sender;

pub(crate) use sender::{ApnsSender, Target};
