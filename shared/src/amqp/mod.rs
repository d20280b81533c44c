//! RabbitMQ: names and arguments, connections that come back, publishing with confirms.

pub mod broker;
pub mod publisher;
pub mod topology;

pub use broker::Broker;
pub use publisher::{ConfirmingPublisher, PublishError};
pub use topology::Topology;
