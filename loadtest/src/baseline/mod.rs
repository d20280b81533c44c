//! What a chat backend is often made of, to be measured beside this one: on the same servers, in the same run, by turns.
//!
//! The baselines are honest where they can be: prepared statements, pools of several connections that are open before
//! the clock starts, the same durability, the same shape of table. They are also spared what the system has to do: their
//! clients call them inside this process, without a socket or a frame. They know nothing of the other crates.

mod contest;
mod drive;
mod numbers;
mod plain_queue;
mod rounds;
mod stage_one;
mod stage_two;
mod summary;
mod table;
mod this_system;
mod timeline;

pub use contest::{Contest, compare};
pub(crate) use drive::Message;
pub use rounds::{Round, Work};
pub use summary::{Comparison, Ratios, Row};
pub(crate) use timeline::Timeline;
