//! RabbitMQ: names and arguments, connections that come back, publishing with confirms.

pub mod broker;
pub mod event_stream;
pub mod publisher;
pub mod topology;

pub use broker::Broker;
pub use event_stream::EventStream;
pub use publisher::{ConfirmingPublisher, PublishError};
pub use topology::Topology;
