//! From the queue into memory: bodies become checked messages; what cannot be stored goes to the dead-letter queue.

pub(crate) mod consumer;
pub(crate) mod dead_letter_publisher;
pub mod dead_letter_queue;
pub(crate) mod watchdog;
