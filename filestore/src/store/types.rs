//! What stores take and give.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use shared::message::FileId;

use super::error::StoreError;

/// Bytes of a file, piece by piece.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
    /// The store's mark of its content.
    pub(super) etag: String,
}

/// The bytes of one upload, which arrive in one piece or in parts.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Their name.
    pub object_id: &'a FileId,
    /// The store's name of an upload in parts, from [`begin`](super::FileStore::begin).
    pub upload_id: Option<&'a str>,
}
