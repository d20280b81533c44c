//! A file with its bytes, as it is read.

use std::sync::LazyLock;

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use crate::conversation::Conversation;
use crate::ids::UserId;
use crate::message::{Attachment, Dimensions, FileId};
use crate::mysql::Pool;
use crate::mysql::multi_row::MultiRow;

/// The state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Its bytes are not complete.
    Begun,
    /// It may be sent and read.
    Complete,
    /// Nobody sees it any more.
    Gone,
}

impl FileState {
    pub(super) const COMPLETE: u8 = 1;
    pub(super) const GONE: u8 = 2;

    fn read(number: u8) -> Self {
        match number {
            0 => Self::Begun,
            Self::COMPLETE => Self::Complete,
            _ => Self::Gone,
        }
    }
}

/// The state of the bytes of one or several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectState {
    /// They are not complete.
    Awaited,
    /// A worker has to rewrite them before anybody reads them.
    Waiting,
    /// They are as they will stay.
    Ready,
    /// They are being removed.
    Doomed,
}

impl ObjectState {
    pub(super) const WAITING: u8 = 1;
    pub(super) const READY: u8 = 2;
    pub(super) const DOOMED: u8 = 3;

    fn read(number: u8) -> Self {
        match number {
            0 => Self::Awaited,
            Self::WAITING => Self::Waiting,
            Self::READY => Self::Ready,
            _ => Self::Doomed,
        }
    }
}

/// The bytes of a file, as the database knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Their name in the store.
    pub object_id: FileId,
    /// Their state.
    pub state: ObjectState,
    /// Their number.
    pub size: u64,
    /// The media type: what the client announced, and from completion on what the content says.
    pub content_type: String,
    /// Of a picture, as it is shown.
    pub dimensions: Option<Dimensions>,
    /// In base64, once a worker has looked at a picture.
    pub thumbhash: Option<String>,
    /// The media type of the small picture, if the store has one.
    pub thumb_type: Option<String>,
    /// A worker will look at it, or look again.
    pub has_job: bool,
    /// Bytes of a part, if it comes in parts.
    pub part_size: Option<u32>,
    /// The store's name of an upload in parts.
    pub upload_id: Option<String>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its id.
    pub file_id: FileId,
    /// The user who uploaded it, or made the copy.
    pub uploader: UserId,
    /// Where it may be sent; `None` for an avatar.
    pub conversation: Option<Conversation>,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: FileState,
    /// When it was announced, in milliseconds since 1970.
    pub created_at: i64,
    /// Its bytes.
    pub object: StoredObject,
}

impl File {
    /// The file as messages carry it.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        let StoredObject { size, content_type, dimensions, thumbhash, .. } = &self.object;
        Attachment {
            file_id: self.file_id.clone(),
            name: self.name.clone(),
            size: *size,
            content_type: content_type.clone(),
            dimensions: *dimensions,
            thumbhash: thumbhash.clone(),
        }
    }

    /// Whether it may be sent and read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == FileState::Complete && self.object.state == ObjectState::Ready
    }
}

const FIELDS: &str = "SELECT f.file_id, f.uploader_id, f.conversation_id, f.name, f.state, f.created_at, f.object_id, \
                      o.state, o.size, o.content_type, o.width, o.height, o.thumbhash, o.thumb_type, o.job_due, \
                      o.part_size, o.upload_id FROM file f JOIN file_object o ON o.object_id = f.object_id";

static BY_ID: LazyLock<MultiRow> =
    LazyLock::new(|| MultiRow::new(&format!("{FIELDS} WHERE f.file_id IN ("), "?", ",", ")"));

/// Those of the files that exist, in no order.
///
/// # Errors
/// The database's.
pub async fn find_all(pool: &Pool, ids: &[FileId]) -> sqlx::Result<Vec<File>> {
    let ids: Vec<[&str; 1]> = ids.iter().map(|id| [id.as_str()]).collect();
    let rows = BY_ID.select_from(pool, None, &ids).await?;
    rows.iter().map(read).collect()
}

/// The file `id`.
///
/// # Errors
/// The database's.
pub async fn find(pool: &Pool, id: &FileId) -> sqlx::Result<Option<File>> {
    Ok(find_all(pool, std::slice::from_ref(id)).await?.pop())
}

/// A column with a value that the project has written itself.
pub(super) fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    value: Result<T, E>,
) -> sqlx::Result<T> {
    value.map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

pub(super) fn dimensions(width: Option<u32>, height: Option<u32>) -> Option<Dimensions> {
    Some(Dimensions { width: width?, height: height? })
}

fn read(row: &MySqlRow) -> sqlx::Result<File> {
    let conversation: Option<&str> = row.try_get(2)?;
    let job_due: Option<i64> = row.try_get(14)?;
    Ok(File {
        file_id: parsed(FileId::parse(row.try_get(0)?))?,
        uploader: parsed(UserId::parse(row.try_get(1)?))?,
        conversation: parsed(conversation.map(Conversation::from_key).transpose())?,
        name: row.try_get(3)?,
        state: FileState::read(row.try_get(4)?),
        created_at: row.try_get(5)?,
        object: StoredObject {
            object_id: parsed(FileId::parse(row.try_get(6)?))?,
            state: ObjectState::read(row.try_get(7)?),
            size: row.try_get(8)?,
            content_type: row.try_get(9)?,
            dimensions: dimensions(row.try_get(10)?, row.try_get(11)?),
            thumbhash: row.try_get(12)?,
            thumb_type: row.try_get(13)?,
            has_job: job_due.is_some(),
            part_size: row.try_get(15)?,
            upload_id: row.try_get(16)?,
        },
    })
}
