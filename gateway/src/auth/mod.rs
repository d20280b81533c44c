//! Who a client is.

pub(crate) mod accounts;
pub(crate) mod caller;
mod claims;
pub(crate) mod keys;
pub(crate) mod operator;
pub(crate) mod revocations;
pub(crate) mod token;
