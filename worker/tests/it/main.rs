//! The worker on real stores (MySQL or MariaDB, Redis, RabbitMQ), which `testbed::stack` finds or starts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod broker;
mod commit;
mod dead_letters;
mod inboxes;
mod outages;
mod process;
mod senders;
mod sharing;
mod support;
mod windows;
