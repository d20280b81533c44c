//! Pictures and files: the store of their bytes, signed links, media types, and small pictures.
//!
//! Gateways and workers use it; what users may see is in the database (`shared::mysql::files`). The rules (links, names,
//! media types, pictures) know no store, clock or database.

pub mod file_name;
pub mod link;
pub mod media_type;
pub mod metadata;
pub mod picture;
pub mod store;

pub use store::{FileStore, StoreError};
