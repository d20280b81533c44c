//! Taking chat messages: admission, numbering, and handing them to the broker.
//!
//! The way of a message: [`Sends::submit`] checks and queues it; its shard's [`pipeline`] takes everything that waits,
//! numbers it, and publishes it as one body; the confirm answers the senders. No step waits for more to come: under load
//! batches form by themselves.

mod admission;
mod numbering;
mod pending;
mod pipeline;
mod recall;
mod stored;

pub use admission::{Admitted, Sends};
pub use numbering::Numbering;
pub use pipeline::Pipeline;
pub use stored::{Final, StoredReplies};
