//! The completion of an upload: are the bytes what was announced?

use std::time::Duration;

use filestore::link::Variant;
use filestore::media_type::{self, is_decoded};
use filestore::{StoreError, metadata, picture};
use shared::ids::UserId;
use shared::message::FileId;
use shared::mysql::files::{self as rows, Completed, File, FileState, ObjectState};
use tokio::time::{Instant, sleep};

use super::service::{Files, store_failed};
use super::uploads::{incoming, not_allowed, part_count, part_size};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Bytes at the beginning of a file that are looked at: the size of a picture may stand behind its metadata.
const LOOKED_AT_BYTES: u64 = 262_144;
/// How long the answer waits for the small picture and its thumbhash, which the attachment may have.
const PICTURE_WAIT: Duration = Duration::from_secs(3);
/// Pauses between two looks.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// Parts that are named in an error.
const MISSING_NAMED_MAX: usize = 20;

impl Files {
    /// Completes the upload `id` of `user`. The file is then as its attachment says.
    ///
    /// # Errors
    /// 400 if the bytes are not what was announced: they are dropped; or for missing parts. 403, 404. 409 if the bytes have
    /// not arrived. 503.
    pub(crate) async fn complete(&self, user: &UserId, id: &FileId) -> Result<File, ApiError> {
        let file = self.own(user, id).await?;
        if file.state == FileState::Begun {
            self.keep(&file).await?;
            self.look_at(&file).await?;
        }
        self.wait_for_picture(id).await
    }

    /// Takes the bytes out of reach of the addresses that they came by.
    async fn keep(&self, file: &File) -> Result<(), ApiError> {
        let failed = |error: StoreError| store_failed(&error);
        let parts = self.store.received(incoming(file)).await.map_err(failed)?;
        if parts.is_empty() && self.is_kept(file).await? {
            // An earlier call was cut off here.
            return Ok(());
        }
        if let Some(wrong) = parts.iter().find(|part| part_size(file, part.number) != Some(part.size)) {
            let expected = part_size(file, wrong.number).unwrap_or(0);
            let why = format!("{} bytes came instead of {expected}", wrong.size);
            return Err(self.dropped(file, &why).await);
        }
        let missing =
            (1..=part_count(file)).filter(|number| !parts.iter().any(|part| part.number == *number));
        let missing: Vec<String> = missing.take(MISSING_NAMED_MAX).map(|number| number.to_string()).collect();
        if !missing.is_empty() {
            return Err(match file.object.part_size {
                Some(_) => ApiError::Malformed(format!("parts are missing: {}", missing.join(", "))),
                None => ApiError::Conflict("the bytes have not arrived: send them first".to_owned()),
            });
        }
        match self.store.keep(incoming(file), &parts).await {
            Ok(()) => Ok(()),
            // Another call completes it at the same moment.
            Err(StoreError::NotFound) if self.is_kept(file).await? => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn is_kept(&self, file: &File) -> Result<bool, ApiError> {
        let size = self.store.size(&file.object.object_id, Variant::Original).await;
        Ok(size.map_err(|error| store_failed(&error))? == Some(file.object.size))
    }

    /// Checks what the bytes are, and records it.
    async fn look_at(&self, file: &File) -> Result<(), ApiError> {
        let failed = |error: StoreError| store_failed(&error);
        let (object, config) = (&file.object, self.settings());
        let limits = &config.files;
        let size = self.store.size(&object.object_id, Variant::Original).await.map_err(failed)?;
        if size != Some(object.size) {
            let why = format!("{} bytes came instead of {}", size.unwrap_or(0), object.size);
            return Err(self.dropped(file, &why).await);
        }
        let range = 0..object.size.min(LOOKED_AT_BYTES);
        let head = self.store.read_all(&object.object_id, Variant::Original, range).await.map_err(failed)?;
        let judged = media_type::judge(&object.content_type, &head[..head.len().min(media_type::HEAD_BYTES)]);
        let content_type = match judged {
            Ok(content_type) if limits.allows(&content_type) => content_type,
            Ok(content_type) => {
                self.drop_bytes(file).await;
                return Err(not_allowed(&content_type, &limits.types));
            }
            Err(mismatch) => return Err(self.dropped(file, &mismatch.to_string()).await),
        };
        if file.conversation.is_none() && !is_decoded(&content_type) {
            return Err(self.dropped(file, &format!("{content_type} is no picture for an avatar")).await);
        }
        let has_job = is_decoded(&content_type) && object.size <= limits.picture_bytes_max;
        let completed = Completed {
            file,
            content_type: &content_type,
            dimensions: if content_type.starts_with("image/") { picture::dimensions(&head) } else { None },
            has_job,
            waits_for_job: has_job && limits.strip_metadata && metadata::can_strip(&content_type),
        };
        if rows::complete(&self.pool, &completed).await.map_err(|error| ApiError::database(&error))? {
            metrics::counter!(shared::metrics::GATEWAY_UPLOADS, "result" => "completed").increment(1);
            metrics::counter!(shared::metrics::GATEWAY_UPLOAD_BYTES).increment(object.size);
        }
        Ok(())
    }

    /// The error for bytes that are not what was announced, which are dropped.
    async fn dropped(&self, file: &File, why: &str) -> ApiError {
        self.drop_bytes(file).await;
        ApiError::Malformed(format!("{why}: the upload is dropped, begin a new one"))
    }

    async fn drop_bytes(&self, file: &File) {
        metrics::counter!(shared::metrics::GATEWAY_UPLOADS, "result" => "refused").increment(1);
        if let Err(error) = rows::drop_upload(&self.pool, &file.file_id).await {
            // It goes with the uploads that are never completed.
            tracing::warn!(%error, file = %file.file_id, "a refused upload is dropped later");
        }
    }

    /// The file when a worker has looked at it, or after a while.
    async fn wait_for_picture(&self, id: &FileId) -> Result<File, ApiError> {
        let until = Instant::now() + PICTURE_WAIT;
        for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[3])) {
            let file = self.file(id).await?;
            if !file.object.has_job {
                return Ok(file);
            }
            if Instant::now() + pause > until {
                return match file.object.state {
                    ObjectState::Ready => Ok(file),
                    // Its metadata is to be removed first.
                    _ => {
                        let why = "the metadata of this picture is being removed: complete the upload again";
                        Err(ApiError::unavailable(why, RetryDelay::Overloaded))
                    }
                };
            }
            sleep(pause).await;
        }
        Err(ApiError::Internal)
    }
}
