//! Who a client is.

pub mod caller;
pub mod operator;
pub mod token;
