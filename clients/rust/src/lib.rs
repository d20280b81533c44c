#![deny(missing_docs)]
#![doc = include_str!("../README.md")]

mod backoff;
mod builder;
mod calls;
mod client;
mod closing;
mod core;
mod dial;
mod driver;
mod error;
mod event;
mod events;
mod message;
mod people;
pub mod protocol;
mod queue;
mod store;
mod tokens;

pub use builder::Builder;
pub use client::{Client, Conversation, HistoryPage, Sent, Summary};
pub use core::Start;
pub use error::Error;
pub use event::{ConnectionState, Event, MembershipChange};
pub use events::Events;
pub use message::{CHANGES, Delivery, Draft, IMAGE, Message, Outgoing, RECALL, Refusal, SYSTEM, TEXT};
pub use people::{
    Blocks, Group, Groups, Invitation, Invitations, MadeGroup, Member, NewGroup, Page, Position, Profile,
    Profiles,
};
pub use store::{FileStore, MemoryStore, Records, Store, StoreError};
pub use tokens::{TokenError, TokenReason};
