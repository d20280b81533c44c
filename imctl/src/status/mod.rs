//! `imctl status`: what runs, and what is wrong.

mod look;
mod metrics;
mod report;
mod rules;
mod run;
mod view;

pub(crate) use run::run;
