//! Where the bytes of files are: a folder, or an S3-compatible store, by the same calls.
//!
//! Bytes arrive under `incoming` and are moved to `objects` when the upload is completed, so that an address for an upload
//! can no longer change what was checked.

mod error;
mod file_store;
mod folder;
mod s3;
mod types;

pub use error::StoreError;
pub use file_store::FileStore;
pub use folder::{Folder, PartWriter};
pub use s3::S3;
pub use types::{ByteStream, Incoming, Part};
