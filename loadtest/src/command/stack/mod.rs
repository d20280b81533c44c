//! `loadtest stack`: the launcher.

mod exec;
mod orphans;
mod ready;
mod servers;
mod subcommand;
mod up;

pub(crate) use servers::Where;
pub(crate) use subcommand::Stack;
