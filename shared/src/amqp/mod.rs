//! RabbitMQ: names and arguments, connections that reconnect, publishing with confirms.

pub mod broker;
pub mod event_stream;
mod keeper;
mod nacks;
pub mod publisher;
pub mod topology;

pub use broker::Broker;
pub use event_stream::EventStream;
pub use publisher::{ConfirmingPublisher, PublishError};
pub use topology::Topology;
