//! What can go wrong with a store.

use std::io;

/// Why a call of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store does not have the bytes.
    #[error("the store does not have these bytes")]
    NotFound,
    /// The folder.
    #[error("the folder of the files: {0}")]
    Io(io::Error),
    /// The S3 store.
    #[error("the S3 store: {0}")]
    S3(String),
    /// A setting is unusable.
    #[error("{0}")]
    Config(String),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound } else { Self::Io(error) }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            other => Self::S3(other.to_string()),
        }
    }
}

impl From<reqwest::Error> for StoreError {
    fn from(error: reqwest::Error) -> Self {
        // Without the URL, which has a signature.
        Self::S3(shared::error_text::error_line(&error.without_url()))
    }
}
