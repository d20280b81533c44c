//! Telling the gateways what was committed.

pub mod events;
