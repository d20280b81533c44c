//! The client's state: pure, without sockets, clocks and stores.
//!
//! The machine is told what happens (a login, a frame, a command, the time), and says what to send, what to write and when
//! it wants to be woken.

mod chats;
mod conversation;
mod events;
mod machine;
mod outbox;
mod reads;
#[cfg(test)]
mod simulation;
mod state;

pub(crate) use conversation::Info;
pub use conversation::Start;
pub(crate) use machine::{Login, Then};
pub(crate) use state::{Core, History, Meta};
