//! Answering reads: pulls (cmd 3), reading positions (cmd 4), syncs (cmd 6), and what a heartbeat asks.

mod pull;
mod reads;
mod recent;
mod shared_reads;
mod sync;
mod tails;

pub use reads::{ReadSettings, Reads};
