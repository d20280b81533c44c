//! What is sent to a device.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::collapse_key::CollapseKey;

/// Longest time for which push services keep a message: 4 weeks, the limit of FCM.
const TTL_MAX: Duration = Duration::from_secs(28 * 24 * 3_600);

/// A message to one device.
#[derive(Debug, Clone, PartialEq)]
pub enum PushMessage {
    /// The device shows a notification.
    Show(Notification),
    /// The app removes the notification with the same key, and shows nothing.
    Withdraw(Withdrawal),
}

impl PushMessage {
    /// The key under which it replaces an earlier message, and is replaced by a later one.
    #[must_use]
    pub fn collapse_key(&self) -> &CollapseKey {
        match self {
            Self::Show(notification) => &notification.collapse_key,
            Self::Withdraw(withdrawal) => &withdrawal.collapse_key,
        }
    }

    /// Seconds for which the push service keeps it while the device is not connected.
    pub(crate) fn ttl_s(&self) -> u64 {
        let ttl = match self {
            Self::Show(notification) => notification.ttl,
            Self::Withdraw(withdrawal) => withdrawal.ttl,
        };
        ttl.min(TTL_MAX).as_secs()
    }
}

/// A notification, as the device shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Its title.
    pub title: String,
    /// The text below the title. It is cut at the end of a character if the message is longer than its push service allows.
    pub body: Option<String>,
    /// Values for the app, such as the conversation's id and a sequence number. They are never cut: with over about 3,500
    /// bytes the message is rejected.
    pub data: Map<String, Value>,
    /// What it replaces, and what replaces it.
    pub collapse_key: CollapseKey,
    /// The number on the app's icon; 0 removes it.
    pub badge: Option<u32>,
    /// How soon the push service wakes the device for it.
    pub urgency: Urgency,
    /// It is shown without a sound: it changes a notification that the device shows already.
    pub quiet: bool,
    /// How long the push service keeps it while the device is not connected; at most 28 days. With 0 it is dropped if it
    /// cannot be delivered at once.
    pub ttl: Duration,
}

/// The end of a notification, such as when its user has read the conversation on another device.
#[derive(Debug, Clone, PartialEq)]
pub struct Withdrawal {
    /// Which notification is removed.
    pub collapse_key: CollapseKey,
    /// Values for the app.
    pub data: Map<String, Value>,
    /// The number on the app's icon; 0 removes it.
    pub badge: Option<u32>,
    /// As in [`Notification::ttl`].
    pub ttl: Duration,
}

/// How soon a push service wakes a device (RFC 8030 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Urgency {
    /// When the device is awake anyway, or charged.
    Low,
    /// Without waking a device that saves its battery.
    Normal,
    /// At once: a message of a person to this user.
    #[default]
    High,
}
