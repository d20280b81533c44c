//! Who a client is.

pub mod token;
