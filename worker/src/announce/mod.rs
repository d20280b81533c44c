//! Telling the gateways what was committed, and noting it in inboxes.

pub mod events;
pub mod inboxes;
pub mod touches;
