//! Telling gateways what was committed, and recording it in inboxes.

pub mod events;
pub(crate) mod inbox_writer;
pub(crate) mod targeting;
pub(crate) mod update_queue;
