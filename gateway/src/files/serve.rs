//! Bytes that this gateway carries: uploads to a folder, and files for clients and CDNs.

use std::ops::Range;

use filestore::link::{LinkError, LinkTarget, UploadTarget};
use filestore::store::{ByteStream, PartWriter};
use filestore::{FileStore, StoreError};

use super::service::{Files, now_s, store_failed};
use crate::wire::api_error::ApiError;

/// A file to be served.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) target: LinkTarget,
    /// All its bytes.
    pub(crate) size: u64,
}

impl Files {
    /// What a link leads to.
    ///
    /// # Errors
    /// 403 for one that was altered or has expired, 404 for bytes that are gone, 503.
    pub(crate) async fn download(&self, path: &str, query: &str) -> Result<Download, ApiError> {
        let key = self.key.as_ref().ok_or_else(gone)?;
        let valid_s = u64::from(self.settings().files.links_valid_s);
        let target = key.check_link(path, query, now_s(), valid_s).map_err(|error| refused(&error))?;
        let size = self.store.size(&target.object_id, target.variant).await;
        let size = size.map_err(|error| store_failed(&error))?.ok_or_else(gone)?;
        Ok(Download { target, size })
    }

    /// The bytes of `range`, which must not be empty.
    ///
    /// # Errors
    /// 404 for bytes that are gone, 503.
    pub(crate) async fn bytes(&self, target: &LinkTarget, range: Range<u64>) -> Result<ByteStream, ApiError> {
        let bytes = self.store.read(&target.object_id, target.variant, range).await;
        bytes.map_err(|error| match error {
            StoreError::NotFound => gone(),
            error => store_failed(&error),
        })
    }

    /// What is uploaded to this address.
    ///
    /// # Errors
    /// 403 for one that was altered or has expired, 404 where uploads go to the store.
    pub(crate) fn upload_target(&self, path: &str, query: &str) -> Result<UploadTarget, ApiError> {
        let key = self.key.as_ref().ok_or_else(gone)?;
        key.check_upload(path, query, now_s()).map_err(|error| refused(&error))
    }

    /// Begins to take bytes.
    ///
    /// # Errors
    /// 404 where uploads go to the store, 503.
    pub(crate) async fn receive(&self, target: &UploadTarget) -> Result<PartWriter, ApiError> {
        match &*self.store {
            FileStore::Folder(folder) => {
                let writer = folder.part_writer(&target.object_id, target.part).await;
                writer.map_err(|error| store_failed(&error))
            }
            FileStore::S3(_) => Err(gone()),
        }
    }
}

fn gone() -> ApiError {
    ApiError::NotFound("there is no such file: it may have been removed".to_owned())
}

fn refused(error: &LinkError) -> ApiError {
    ApiError::Forbidden(error.to_string())
}
