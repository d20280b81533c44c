//! The protocol's frames as types: no sockets, no clocks, no stores.

pub mod api_error;
pub mod close;
pub mod context;
pub mod denied;
mod frame;
pub mod listing;
pub mod message;
pub mod reply;
pub mod request;
