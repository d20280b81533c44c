//! Where the bytes of files are.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use shared::config::{FileStoreKind, Files};
use shared::message::FileId;

use super::error::StoreError;
use super::folder::Folder;
use super::s3::S3;
use super::types::{ByteStream, Incoming, Part};
use crate::link::{LinkTarget, Variant};

/// Where the bytes of files are.
#[derive(Debug)]
pub enum FileStore {
    /// In a folder.
    Folder(Folder),
    /// In a bucket.
    S3(Box<S3>),
}

impl FileStore {
    /// Opens the store that `config` names; `None` if `store = "none"`. The configuration must have passed its checks.
    ///
    /// # Errors
    /// The folder cannot be made, or the settings of the bucket are unusable.
    pub fn open(config: &Files) -> Result<Option<Arc<Self>>, StoreError> {
        Ok(match config.store {
            FileStoreKind::None => None,
            FileStoreKind::Folder => Some(Arc::new(Self::Folder(Folder::open(&config.folder)?))),
            FileStoreKind::S3 => Some(Arc::new(Self::S3(Box::new(S3::open(config)?)))),
        })
    }

    /// Checks that the store answers and lets us write.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.check().await,
            Self::S3(s3) => s3.check().await,
        }
    }

    /// Prepares an upload in parts. The result is the store's name of it, if it gives one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn begin(&self, object_id: &FileId) -> Result<Option<String>, StoreError> {
        match self {
            Self::Folder(_) => Ok(None),
            Self::S3(s3) => s3.begin(object_id).await.map(Some),
        }
    }

    /// The address to which a client sends `size` bytes: the whole file, or the part `part`. `None`: to a gateway.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn upload_url(
        &self,
        incoming: Incoming<'_>,
        part: u32,
        size: u64,
        valid: Duration,
    ) -> Result<Option<String>, StoreError> {
        match self {
            Self::Folder(_) => Ok(None),
            Self::S3(s3) => s3.upload_url(incoming, part, size, valid).await.map(Some),
        }
    }

    /// The parts that have arrived, by number. A file in one piece is part 1.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn received(&self, incoming: Incoming<'_>) -> Result<Vec<Part>, StoreError> {
        match self {
            Self::Folder(folder) => folder.received(incoming.object_id).await,
            Self::S3(s3) => s3.received(incoming).await,
        }
    }

    /// Puts the parts together, and keeps the result: later writes to the addresses of the upload do not change it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn keep(&self, incoming: Incoming<'_>, parts: &[Part]) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.keep(incoming.object_id, parts).await,
            Self::S3(s3) => s3.keep(incoming, parts).await,
        }
    }

    /// The number of bytes; `None` if the store does not have them.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn size(&self, object_id: &FileId, variant: Variant) -> Result<Option<u64>, StoreError> {
        let found = match self {
            Self::Folder(folder) => folder.size(object_id, variant).await,
            Self::S3(s3) => s3.size(object_id, variant).await,
        };
        match found {
            Ok(size) => Ok(Some(size)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of `range`, which must not be empty.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn read(
        &self,
        object_id: &FileId,
        variant: Variant,
        range: Range<u64>,
    ) -> Result<ByteStream, StoreError> {
        match self {
            Self::Folder(folder) => folder.read(object_id, variant, range).await,
            Self::S3(s3) => s3.read(object_id, variant, range).await,
        }
    }

    /// All bytes of `range` at once.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn read_all(
        &self,
        object_id: &FileId,
        variant: Variant,
        range: Range<u64>,
    ) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
        let mut stream = self.read(object_id, variant, range).await?;
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    /// Writes `bytes`, whatever was there before.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn write(
        &self,
        object_id: &FileId,
        variant: Variant,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.write(object_id, variant, bytes).await,
            Self::S3(s3) => s3.write(object_id, variant, bytes).await,
        }
    }

    /// Removes everything of an object, also what has arrived of it. It is no error if there is nothing.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn remove(&self, incoming: Incoming<'_>) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.remove(incoming.object_id).await,
            Self::S3(s3) => s3.remove(incoming).await,
        }
    }

    /// A link to the store itself; `None`: gateways serve the bytes.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn link(
        &self,
        target: &LinkTarget,
        now_s: u64,
        valid_s: u64,
    ) -> Result<Option<String>, StoreError> {
        match self {
            Self::Folder(_) => Ok(None),
            Self::S3(s3) => s3.link(target, now_s, valid_s).await.map(Some),
        }
    }

    /// The names and sizes of all originals that the store has, in no order.
    #[must_use]
    pub fn objects(&self) -> BoxStream<'static, Result<(FileId, u64), StoreError>> {
        match self {
            Self::Folder(folder) => folder.objects(),
            Self::S3(s3) => s3.objects(),
        }
    }

    /// Removes what has arrived for uploads that were completed or dropped, and was last written before `age` ago: at most
    /// `count`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn sweep_incoming(&self, age: Duration, count: usize) -> Result<usize, StoreError> {
        match self {
            Self::Folder(folder) => folder.sweep_incoming(age, count).await,
            Self::S3(s3) => s3.sweep_incoming(age, count).await,
        }
    }
}
