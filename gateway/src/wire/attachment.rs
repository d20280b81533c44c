//! A file as clients see it: in messages, and in the answer to a completed upload.

use std::borrow::Cow;

use serde::Serialize;
use shared::message::{Attachment, Dimensions};

use super::json_size::escaped_bytes;

/// Names of fields, the id and the numbers of a file in JSON, in bytes, roughly.
const FIELDS_BYTES: usize = 192;

/// A file as clients see it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AttachmentView<'a> {
    file_id: Cow<'a, str>,
    name: Cow<'a, str>,
    size: u64,
    content_type: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbhash: Option<Cow<'a, str>>,
}

impl AttachmentView<'_> {
    /// About its bytes in JSON.
    pub(super) fn bytes(&self) -> usize {
        escaped_bytes(&self.name) + self.content_type.len() + FIELDS_BYTES
    }

    fn with(self, dimensions: Option<Dimensions>) -> Self {
        Self { width: dimensions.map(|one| one.width), height: dimensions.map(|one| one.height), ..self }
    }
}

impl<'a> From<&'a Attachment> for AttachmentView<'a> {
    fn from(attachment: &'a Attachment) -> Self {
        let Attachment { file_id, name, size, content_type, dimensions, thumbhash } = attachment;
        let view = Self {
            file_id: file_id.as_str().into(),
            name: name.into(),
            size: *size,
            content_type: content_type.into(),
            width: None,
            height: None,
            thumbhash: thumbhash.as_deref().map(Cow::Borrowed),
        };
        view.with(*dimensions)
    }
}

impl From<Attachment> for AttachmentView<'static> {
    fn from(attachment: Attachment) -> Self {
        let Attachment { file_id, name, size, content_type, dimensions, thumbhash } = attachment;
        let view = AttachmentView {
            file_id: file_id.as_str().to_owned().into(),
            name: name.into(),
            size,
            content_type: content_type.into(),
            width: None,
            height: None,
            thumbhash: thumbhash.map(Cow::Owned),
        };
        view.with(dimensions)
    }
}
