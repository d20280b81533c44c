//! The specifications in `docs/api`, for tests: does a frame or an HTTP call conform to them?
//!
//! The published schemas are open, since clients ignore fields that they do not know. A test closes them
//! ([`Strictness::Closed`]): a field that no schema has is a fault, so that nothing is sent that is not specified.
//!
//! No program depends on this crate.

mod api;
mod closing;
mod documents;
mod frames;
mod operations;
mod parameters;
mod validators;

pub use api::{Api, Exchange, api};
pub use documents::Documents;
pub use operations::Operation;
pub use validators::Strictness;
