//! Pushes and events to connected clients, from the events of workers and gateways.

mod acknowledgements;
pub(crate) mod fanout;
pub(crate) mod listener;
mod stream_numbers;
mod traces;
