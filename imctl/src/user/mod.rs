//! `imctl user`: one user.

pub(crate) mod disconnect;
pub(crate) mod show;
pub(crate) mod token;
