//! Uploads until their completion.

use std::time::Duration;

use filestore::file_name;
use filestore::link::UploadTarget;
use filestore::media_type::{self, is_decoded};
use filestore::store::Incoming;
use shared::conversation::Conversation;
use shared::ids::{UserId, unix_millis};
use shared::message::FileId;
use shared::mysql::files::{self as rows, File, FileState, NewUpload};

use super::service::{Files, no_file, now_s, store_failed};
use crate::membership::quotas::day;
use crate::wire::api_error::ApiError;

/// How long an address for an upload is valid.
const ADDRESS_VALID: Duration = Duration::from_secs(3_600);
/// Most addresses of parts at once.
const PARTS_ASKED_MAX: usize = 100;
/// The largest file that S3 takes, and copies, in one piece.
const PIECE_BYTES_MAX: u64 = 5_368_709_120;

/// What a client announces.
#[derive(Debug)]
pub(crate) struct UploadRequest {
    /// Where it will be sent; `None` for an avatar.
    pub(crate) conversation: Option<Conversation>,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) content_type: String,
    /// The client can send parts.
    pub(crate) parts: bool,
}

/// An upload that may begin.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) file_id: FileId,
    pub(crate) expires_at: i64,
    pub(crate) way: UploadWay,
}

/// How the bytes of an upload are sent.
#[derive(Debug)]
pub(crate) enum UploadWay {
    /// In one piece, to this address.
    Whole(String),
    /// In `count` parts of `size` bytes; the last one may be smaller.
    Parts { size: u32, count: u64 },
}

/// Where a client sends a part.
#[derive(Debug)]
pub(crate) struct PartAddress {
    pub(crate) number: u32,
    pub(crate) url: String,
}

/// How far an upload is.
#[derive(Debug)]
pub(crate) struct UploadState {
    pub(crate) file: File,
    /// When it is removed if it is not completed.
    pub(crate) expires_at: i64,
    /// The numbers of the parts that have arrived whole; `None` for a file in one piece.
    pub(crate) received: Option<Vec<u32>>,
}

impl Files {
    /// Begins an upload of `user`. `is_limited`: the limits per day apply.
    ///
    /// # Errors
    /// 400, 403 outside the conversation, 413, 429 until the next day, 503.
    pub(crate) async fn begin(
        &self,
        user: &UserId,
        request: &UploadRequest,
        is_limited: bool,
    ) -> Result<Begun, ApiError> {
        let config = self.settings();
        let content_type = self.check(request)?;
        if let Some(conversation) = &request.conversation {
            self.memberships.require_inside(conversation, user).await?;
        }
        if is_limited {
            self.count(user, request.size).await?;
        }
        let part_bytes = config.files.part_bytes;
        let has_parts = request.parts && request.size > u64::from(part_bytes);
        let file_id = FileId::generate();
        let upload_id = match has_parts {
            true => self.store.begin(&file_id).await.map_err(|error| store_failed(&error))?,
            false => None,
        };
        let upload = NewUpload {
            file_id: &file_id,
            uploader: user,
            conversation: request.conversation.as_ref(),
            name: &file_name::safe(&request.name),
            size: request.size,
            content_type: &content_type,
            part_size: has_parts.then_some(part_bytes),
            upload_id: upload_id.as_deref(),
            sweep_at: unix_millis() + self.unused_keep_ms(),
        };
        rows::begin(&self.pool, &upload).await.map_err(|error| ApiError::database(&error))?;
        metrics::counter!(shared::metrics::GATEWAY_UPLOADS, "result" => "begun").increment(1);
        if has_parts {
            let count = request.size.div_ceil(u64::from(part_bytes));
            let (expires_at, way) = (upload.sweep_at, UploadWay::Parts { size: part_bytes, count });
            return Ok(Begun { file_id, expires_at, way });
        }
        let incoming = Incoming { object_id: &file_id, upload_id: None };
        let url = self.address(incoming, 1, request.size).await?;
        let expires_at = unix_millis() + i64::try_from(ADDRESS_VALID.as_millis()).unwrap_or_default();
        Ok(Begun { file_id, expires_at, way: UploadWay::Whole(url) })
    }

    /// How long a file is kept that is not completed or sent.
    fn unused_keep_ms(&self) -> i64 {
        i64::from(self.settings().files.unused_keep_s) * 1_000
    }

    /// The media type that is announced, if such a file may be uploaded.
    fn check(&self, request: &UploadRequest) -> Result<String, ApiError> {
        let config = self.settings();
        let limits = &config.files;
        if request.size == 0 {
            return Err(ApiError::malformed("size is 0: an empty file cannot be uploaded"));
        }
        if request.size > limits.bytes_max {
            let max = limits.bytes_max;
            return Err(ApiError::TooLarge(format!(
                "size is {} bytes: at most {max} are taken",
                request.size
            )));
        }
        if request.size > PIECE_BYTES_MAX && !request.parts {
            return Err(ApiError::malformed("files above 5 GiB come in parts: send \"parts\": true"));
        }
        let content_type = media_type::normalized(&request.content_type)
            .ok_or_else(|| ApiError::malformed("content_type must be a media type, such as image/png"))?;
        if !limits.allows(&content_type) {
            return Err(not_allowed(&content_type, &limits.types));
        }
        if request.conversation.is_none() && !is_decoded(&content_type) {
            let why = "an avatar must be image/png, image/jpeg, image/gif or image/webp: for another file, name its conversation_id";
            return Err(ApiError::malformed(why));
        }
        Ok(content_type)
    }

    /// Counts an upload of today, unless a limit is reached.
    async fn count(&self, user: &UserId, size: u64) -> Result<(), ApiError> {
        let config = self.settings();
        let limits = &config.files;
        let (day, retry_after_ms) = day(unix_millis());
        let counts = rows::count(&self.pool, user, day, size).await.map_err(|e| ApiError::database(&e))?;
        let is_over = |limit: u64, count: u64| limit > 0 && count > limit;
        let what = if is_over(limits.user_uploads_per_day.into(), counts.uploads.into()) {
            format!("{} uploads", limits.user_uploads_per_day)
        } else if is_over(limits.user_bytes_per_day, counts.bytes) {
            format!("{} bytes of uploads", limits.user_bytes_per_day)
        } else {
            return Ok(());
        };
        if let Err(error) = rows::uncount(&self.pool, user, day, size).await {
            tracing::warn!(%error, %user, "an upload that was refused counts until tomorrow");
        }
        Err(ApiError::RateLimited {
            message: format!("you have had {what} today: go on tomorrow (UTC)"),
            retry_after_ms,
        })
    }

    /// The address for a part of `size` bytes.
    async fn address(&self, incoming: Incoming<'_>, part: u32, size: u64) -> Result<String, ApiError> {
        let at_store = self.store.upload_url(incoming, part, size, ADDRESS_VALID).await;
        if let Some(url) = at_store.map_err(|error| store_failed(&error))? {
            return Ok(url);
        }
        // A configuration with a folder has a key.
        let key = self.key.as_ref().ok_or(ApiError::Internal)?;
        let target = UploadTarget { object_id: incoming.object_id.clone(), part, size };
        let path = key.upload(&target, now_s() + ADDRESS_VALID.as_secs());
        Ok(format!("{}{path}", self.settings().files.base_url))
    }

    /// The upload `id` of `user`.
    ///
    /// # Errors
    /// 403 for another user's, 404, 503.
    pub(super) async fn own(&self, user: &UserId, id: &FileId) -> Result<File, ApiError> {
        let file = self.file(id).await?;
        if file.uploader != *user {
            return Err(ApiError::Forbidden("this is another user's upload".to_owned()));
        }
        Ok(file)
    }

    /// The addresses of parts.
    ///
    /// # Errors
    /// 400 for numbers of no part, 403, 404, 409 if the upload is complete, 503.
    pub(crate) async fn part_addresses(
        &self,
        user: &UserId,
        id: &FileId,
        numbers: &[u32],
    ) -> Result<Vec<PartAddress>, ApiError> {
        let file = self.own(user, id).await?;
        if file.state != FileState::Begun {
            return Err(completed());
        }
        if numbers.is_empty() || numbers.len() > PARTS_ASKED_MAX {
            return Err(ApiError::malformed("numbers must have 1 to 100 entries"));
        }
        let mut addresses = Vec::with_capacity(numbers.len());
        for number in numbers {
            let size = part_size(&file, *number)
                .ok_or_else(|| ApiError::Malformed(format!("numbers must be 1 to {}", part_count(&file))))?;
            let url = self.address(incoming(&file), *number, size).await?;
            addresses.push(PartAddress { number: *number, url });
        }
        Ok(addresses)
    }

    /// How far an upload is.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn upload_state(&self, user: &UserId, id: &FileId) -> Result<UploadState, ApiError> {
        let file = self.own(user, id).await?;
        let received = match file.object.part_size {
            Some(_) if file.state == FileState::Begun => {
                let parts =
                    self.store.received(incoming(&file)).await.map_err(|error| store_failed(&error))?;
                let whole = parts.iter().filter(|part| part_size(&file, part.number) == Some(part.size));
                Some(whole.map(|part| part.number).collect())
            }
            Some(_) => Some((1..=part_count(&file)).collect()),
            None => None,
        };
        Ok(UploadState { expires_at: file.created_at + self.unused_keep_ms(), file, received })
    }

    /// Drops an upload that is not complete.
    ///
    /// # Errors
    /// 403, 404, 409 if it is complete, 503.
    pub(crate) async fn cancel(&self, user: &UserId, id: &FileId) -> Result<(), ApiError> {
        let file = self.own(user, id).await?;
        let dropped =
            rows::drop_upload(&self.pool, &file.file_id).await.map_err(|e| ApiError::database(&e))?;
        if dropped { Ok(()) } else { Err(completed()) }
    }

    /// A file with the bytes of `id`, which `user` sends to `conversation`.
    ///
    /// # Errors
    /// 403 if the user may not see the file or is outside the conversation, 404, 409 if it is not complete, 503.
    pub(crate) async fn copy(
        &self,
        user: &UserId,
        id: &FileId,
        conversation: &Conversation,
    ) -> Result<File, ApiError> {
        let source = self.visible(user, id).await?;
        self.memberships.require_inside(conversation, user).await?;
        let file_id = FileId::generate();
        let new = NewUpload {
            file_id: &file_id,
            uploader: user,
            conversation: Some(conversation),
            name: &source.name,
            size: source.object.size,
            content_type: &source.object.content_type,
            part_size: None,
            upload_id: None,
            sweep_at: unix_millis() + self.unused_keep_ms(),
        };
        let copied =
            rows::copy(&self.pool, &source, &new).await.map_err(|error| ApiError::database(&error))?;
        if !copied {
            return Err(no_file());
        }
        let conversation = Some(conversation.clone());
        Ok(File { file_id, uploader: user.clone(), conversation, state: FileState::Complete, ..source })
    }
}

pub(super) fn not_allowed(content_type: &str, types: &[String]) -> ApiError {
    ApiError::Malformed(format!("{content_type} is not taken here: allowed are {}", types.join(", ")))
}

fn completed() -> ApiError {
    ApiError::Conflict("this upload is complete".to_owned())
}

pub(super) fn incoming(file: &File) -> Incoming<'_> {
    Incoming { object_id: &file.object.object_id, upload_id: file.object.upload_id.as_deref() }
}

/// The number of parts; 1 for a file in one piece.
pub(super) fn part_count(file: &File) -> u32 {
    let part = file.object.part_size.map_or(file.object.size, u64::from).max(1);
    u32::try_from(file.object.size.div_ceil(part)).unwrap_or(u32::MAX)
}

/// The bytes of the part `number`; `None` if there is no such part.
pub(super) fn part_size(file: &File, number: u32) -> Option<u64> {
    let part = file.object.part_size.map_or(file.object.size, u64::from);
    let before = u64::from(number.checked_sub(1)?).checked_mul(part)?;
    file.object.size.checked_sub(before).filter(|rest| *rest > 0).map(|rest| rest.min(part))
}
