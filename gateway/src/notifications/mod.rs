//! Notifications of messages on devices that are not connected.
//!
//! The change feed is the outbox: its rows are written in the transactions that store messages. A reader of the feed
//! ([`reader`]) plans notifications, each message once, because its place moves in the transaction that writes them
//! ([`planner`], pure). The same gateway sends those of its shards ([`sender`]): [`rules`], pure, says what becomes of a row,
//! [`compose`], pure, what the device is told, and [`delivery`] sends it to all devices of the user. [`service`] is the part
//! that HTTP calls use, with the credentials of the push services; [`subscription`] reads what a device registers.

mod compose;
mod delivery;
mod planner;
mod reader;
mod rules;
mod sender;
mod service;
#[cfg(test)]
mod simulation;
mod subscription;

pub(crate) use reader::NotificationReader;
pub(crate) use service::{NotificationDeps, Notifications};
pub(crate) use subscription::{Registration, subscription_view};
