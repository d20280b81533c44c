//! Notifications: two gateways and two workers on real stores, with push services that check what they are sent.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod devices;
mod kills;
mod services;
mod support;
mod what;
