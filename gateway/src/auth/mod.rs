//! Who a client is.

pub mod accounts;
pub mod caller;
pub mod keys;
pub mod operator;
pub mod revocations;
pub mod token;
