//! Who a client is.

pub(crate) mod accounts;
pub(crate) mod caller;
mod claims;
pub(crate) mod keys;
pub(crate) mod login_limits;
pub(crate) mod new_accounts;
pub(crate) mod operator;
mod password_rules;
pub(crate) mod revocations;
pub(crate) mod token;
