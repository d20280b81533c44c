//! `imctl trace`: where is my message?

mod find;
mod gather;
mod report;
mod rules;
mod run;
mod view;

pub(crate) use run::{Wanted, run};
