//! Simpler chat backends, measured beside this one: on the same servers, in the same run, in alternating rounds.
//!
//! The baselines are as fast as their design allows: prepared statements, several connections that are open before the
//! clock starts, the same durability, the same table. Their clients call them inside this process, without sockets and
//! frames, which favors them. They use none of the other crates.

mod comparison;
mod drive;
mod mysql_only;
mod plain_queue;
mod plan;
mod redis_seq_insert_each;
mod rounds;
mod sequences;
mod summary;
mod table;
mod this_system;
mod timeline;

pub use comparison::compare;
pub(crate) use drive::Message;
pub use plan::Plan;
pub use rounds::{Round, Work};
pub use summary::{Comparison, Ratios, Row};
pub(crate) use timeline::Timeline;
