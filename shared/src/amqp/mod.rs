//! RabbitMQ: names and arguments, connections that reconnect, publishing with confirms, and a look at policies.

pub mod addresses;
pub mod broker;
pub mod event_stream;
pub mod inspector;
mod keeper;
mod management;
mod nacks;
mod policies;
mod policy_watch;
pub mod publisher;
mod replicas;
pub mod topology;

pub use broker::Broker;
pub use event_stream::EventStream;
pub use inspector::Inspector;
pub use policy_watch::PolicyWatch;
pub use publisher::{ConfirmingPublisher, PublishError};
pub use topology::Topology;
