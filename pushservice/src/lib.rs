//! Sends one notification to one device through its push service: Web Push (browsers, and Android by UnifiedPush), FCM or
//! APNs.
//!
//! It knows the protocols, and no users, conversations, queue or database. [`Senders`] has the credentials; a
//! [`Subscription`] names a device, a [`PushMessage`] says what the device shows or withdraws, and an [`Outcome`] says what
//! the caller does next: nothing, remove the subscription, try again later, or report an error.

mod apns;
mod base64url;
mod clock;
mod collapse_key;
mod config;
mod fcm;
mod message;
mod outcome;
mod public_key;
mod response;
mod senders;
mod subscription;
mod truncation;
mod web_push;

pub use collapse_key::CollapseKey;
pub use config::PushConfig;
pub use message::{Notification, PushMessage, Urgency, Withdrawal};
pub use outcome::Outcome;
pub use public_key::P256PublicKey;
pub use response::retry_after;
pub use senders::{Clients, Senders};
pub use subscription::{PushService, Subscription, SubscriptionError};
pub use web_push::VapidKeyPair;
