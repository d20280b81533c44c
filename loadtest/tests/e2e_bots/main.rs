//! Bots: the change feed for users, and the echo bot of the examples. Two gateways and two workers on real stores.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod echo;
mod feed;
mod support;
