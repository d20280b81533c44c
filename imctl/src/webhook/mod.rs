//! `imctl webhook`: endpoints of the app that are told what happened.

mod run;
mod text;

pub(crate) use run::run;
