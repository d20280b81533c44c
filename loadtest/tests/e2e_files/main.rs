//! Pictures and files, with a folder and with a real S3 server as the store.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

mod bounds;
mod life;
mod operations;
mod refusals;
mod support;
