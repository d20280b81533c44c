//! The senders against push services that check what they are sent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed helper is a failed test")]

mod apns;
mod fcm;
mod support;
mod web_push;
