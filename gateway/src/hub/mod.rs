//! Who is connected here, and which connections a conversation concerns.

mod audience;
mod connections;
mod member;
mod registry;

pub use connections::Hub;
pub use member::{Member, TooMany};
