#![deny(missing_docs)]
//! Client of the self-hosted instant-messaging server in this repository.

pub mod protocol;
