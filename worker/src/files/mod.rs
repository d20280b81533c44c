//! What workers do for files: small pictures, and the removal of files that nobody uses.

mod pictures;
mod start;
mod sweeper;

pub(crate) use start::start;
