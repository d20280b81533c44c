//! Who is connected here, and which connections a conversation concerns.
//!
//! The hub knows connections, not rights: which users get the pushes of a group is decided by `membership`.

mod audience;
mod connections;
mod member;
mod registry;

pub use connections::Hub;
pub use member::Member;
