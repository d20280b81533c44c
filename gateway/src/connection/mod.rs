//! One client's connection: from the upgrade to the close.

mod backend;
mod deadlines;
#[cfg(test)]
mod fake;
pub mod login;
pub mod logins;
mod services;
pub mod socket;
pub mod task;
mod token_expiry;
mod transport;

pub use services::Services;
