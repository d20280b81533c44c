//! `imctl conversation`: one conversation, or all.

pub(crate) mod findings;
mod of_one;
pub(crate) mod show;
pub(crate) mod verify;
