//! `imctl config check`: the configurations as the processes read them, and the stores that they name.

mod report;
mod run;
mod stores;

pub(crate) use run::run;
