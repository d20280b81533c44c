//! Files that a message carries.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Most files of one message.
pub const ATTACHMENTS_MAX: usize = 10;
/// Longest name of a file, in characters.
pub const FILE_NAME_CHARS_MAX: usize = 128;
/// Longest name of a file, in bytes of UTF-8.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 64;

/// The id of a file: 32 hexadecimal digits, chosen by the server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FileId(String);

/// A text is no id of a file. Its `Display` is meant for the client that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("file_id must be one that this server has given out: 32 hexadecimal digits")]
pub struct FileIdError;

impl FileId {
    /// A new id. Ids rise with time, so that rows of new files stand side by side, and cannot be guessed.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// Checks `text`.
    ///
    /// # Errors
    /// [`FileIdError`]
    pub fn parse(text: &str) -> Result<Self, FileIdError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 32 && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FileIdError)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Width and height of a picture as it is shown, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimensions {
    /// Pixels from left to right.
    #[serde(rename = "w")]
    pub width: u32,
    /// Pixels from top to bottom.
    #[serde(rename = "h")]
    pub height: u32,
}

/// A file as readers of its message see it. What it is serialized to is the encoding in the column `extra`, with short
/// names, since the column is limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The file.
    #[serde(rename = "i")]
    pub file_id: FileId,
    /// Its name, made harmless.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its length in bytes.
    #[serde(rename = "s", default)]
    pub size: u64,
    /// Its media type, as its content says.
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// The size of a picture.
    #[serde(flatten)]
    pub dimensions: Option<Dimensions>,
    /// A placeholder for a picture, by the thumbhash algorithm, in base64.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub thumbhash: Option<String>,
}

impl Attachment {
    /// A file that a client has named, before it is looked up.
    #[must_use]
    pub fn named(file_id: FileId) -> Self {
        let (name, content_type) = (String::new(), String::new());
        Self { file_id, name, size: 0, content_type, dimensions: None, thumbhash: None }
    }

    /// Whether it is a picture that pages show: no drawing that may run scripts.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        matches!(
            self.content_type.as_str(),
            "image/png"
                | "image/jpeg"
                | "image/gif"
                | "image/webp"
                | "image/avif"
                | "image/bmp"
                | "image/heif"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits() {
        let id = FileId::generate();
        assert_eq!(FileId::parse(id.as_str()), Ok(id));
        for wrong in
            ["", "0", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33), "../../../../../../../../etc/passwd"]
        {
            assert_eq!(FileId::parse(wrong), Err(FileIdError), "{wrong}");
        }
    }

    #[test]
    fn the_encoding_of_an_attachment_is_read_back() {
        let picture = Attachment {
            name: "cat.png".to_owned(),
            size: 7,
            content_type: "image/png".to_owned(),
            dimensions: Some(Dimensions { width: 320, height: 240 }),
            thumbhash: Some("YTkGJwaRhWUIt4lbgnhZl3ath2BUBGYA".to_owned()),
            ..Attachment::named(FileId::generate())
        };
        let file = Attachment { dimensions: None, thumbhash: None, ..picture.clone() };
        for one in [picture, file, Attachment::named(FileId::generate())] {
            let text = serde_json::to_string(&one).unwrap();
            assert_eq!(serde_json::from_str::<Attachment>(&text).unwrap(), one, "{text}");
        }
    }
}
