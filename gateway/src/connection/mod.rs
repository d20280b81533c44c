//! The connection of one client, from the upgrade to the close.

mod backend;
mod deadlines;
mod deps;
#[cfg(test)]
mod fake;
pub mod login;
pub mod logins;
pub(crate) mod refused;
mod settings;
pub mod socket;
pub mod task;
mod token_expiry;
mod transport;

pub(crate) use deps::Deps;
pub(crate) use logins::Logins;
pub(crate) use settings::PresentSettings;
