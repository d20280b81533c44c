//! The files that a message carries, looked up before it is queued.
//!
//! A client names them by their ids. What readers see of them comes from the database: a client cannot say that a program is
//! a picture. At the commit it is checked again that none was removed meanwhile.

use shared::message::{FileId, Message, MessageKind};
use shared::mysql::Pool;
use shared::mysql::files::{self, Usable};

use crate::wire::api_error::ApiError;

/// Puts in what is known of the files of `message`.
///
/// # Errors
/// 400 for a file that its sender may not send here, 503.
pub(super) async fn look_up(pool: &Pool, message: &mut Message) -> Result<(), ApiError> {
    let ids: Vec<FileId> = message.files().cloned().collect();
    let found = files::usable(pool, &message.sender, &message.conversation, &ids).await;
    let found = found.map_err(|error| ApiError::database(&error))?.map_err(|(id, why)| refused(id, why))?;
    let attachments: Vec<_> = found.iter().map(files::File::attachment).collect();
    if matches!(message.kind, MessageKind::Image(_))
        && let Some(other) = attachments.iter().find(|one| !one.is_picture())
    {
        return Err(ApiError::Malformed(format!(
            "payload.attachments: {} is {}, no picture: send it with msg_type 7",
            other.file_id, other.content_type
        )));
    }
    if let Some(details) = message.details.as_deref_mut() {
        details.attachments = attachments;
    }
    Ok(())
}

fn refused(id: &FileId, why: Usable) -> ApiError {
    let why = match why {
        Usable::NotFound => "is no file that you have uploaded, or was removed",
        Usable::OtherConversation => {
            "was uploaded for another conversation: make a copy with POST /api/files/{file_id}/copy"
        }
        Usable::NotComplete => "is not complete: call POST /api/uploads/{file_id}/complete first",
    };
    ApiError::Malformed(format!("payload.attachments: {id} {why}"))
}
