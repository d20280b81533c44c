//! From the queue into memory: bodies to checked messages, and what is none to the dead-letter queue.

pub mod consumer;
pub mod dead_letters;
pub mod letter_box;
