//! `imctl shards`: the workers' shares, and the number of shards.

pub(crate) mod plan;
pub(crate) mod set;
mod step;
