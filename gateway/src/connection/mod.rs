//! One client's connection: from the upgrade to the close.

mod lease;
pub mod logins;
mod services;
pub mod session;
pub mod socket;
pub mod task;

pub use lease::Lease;
pub use services::Services;
