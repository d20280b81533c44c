//! Pictures and files: uploads, links, and who may see what.
//!
//! The bytes go from the client to the store and back, without the part of the gateway that carries messages. What a file
//! is and who may see it is in the database, so that every gateway answers every request.

mod access;
mod complete;
mod links;
mod serve;
mod service;
mod uploads;

pub(crate) use links::Link;
pub(crate) use serve::Download;
pub(crate) use service::{Files, TransferPlace, store_failed};
pub(crate) use uploads::{Begun, PartAddress, UploadRequest, UploadWay};
