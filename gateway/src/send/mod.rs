//! Sending chat messages: admission, sequence numbers, and handing them to the broker.
//!
//! [`admission`] checks a message and queues it, after the hook has allowed it if there is one ([`moderated`]). The [`pipeline`] of its shard takes everything that waits, numbers
//! it, and publishes it as one batch. The confirm answers the senders ([`in_flight`]). No step waits for more messages:
//! under load batches form by themselves.

mod admission;
mod attachments;
mod gate;
mod in_flight;
mod lanes;
mod moderated;
mod numbering;
mod pipeline;
mod pipeline_context;
mod pipelines;
mod push_timer;
mod reference;
mod reseed;
mod routes;
mod sampling;
mod shard_publisher;
mod system_entries;

pub(crate) use admission::Sends;
pub(crate) use in_flight::InFlight;
pub(crate) use numbering::Numbering;
pub(crate) use pipeline_context::PipelineContext;
pub(crate) use pipelines::Pipelines;
pub(crate) use system_entries::SystemEntries;
