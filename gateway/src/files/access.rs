//! Who may see a file.

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::FileId;
use shared::mysql::files::{self as rows, File};

use super::service::{Files, no_file};
use crate::wire::api_error::ApiError;

impl Files {
    /// Those of the files that `user` may see, in the order of `ids`: avatars, its own, and those of messages that it may
    /// see.
    ///
    /// # Errors
    /// 503
    pub(super) async fn all_visible(&self, user: &UserId, ids: &[FileId]) -> Result<Vec<File>, ApiError> {
        let found = rows::find_all(&self.pool, ids).await.map_err(|error| ApiError::database(&error))?;
        let found = found.into_iter().filter(File::is_complete);
        let mut found: AHashMap<FileId, File> = found.map(|file| (file.file_id.clone(), file)).collect();
        let others: Vec<&FileId> =
            found.values().filter(|file| !is_open(file, user)).map(|file| &file.file_id).collect();
        let sent = rows::last_seqs(&self.pool, &others).await.map_err(|error| ApiError::database(&error))?;
        let floors = self.floors(user, found.values().filter(|file| !is_open(file, user))).await?;
        found.retain(|id, file| {
            let floor = file.conversation.as_ref().and_then(|conversation| floors.get(conversation));
            is_open(file, user) || matches!((sent.get(id), floor), (Some(seq), Some(floor)) if seq > floor)
        });
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// The file `id`, if `user` may see it.
    ///
    /// # Errors
    /// 403, 404 for one that does not exist or is not complete, 503.
    pub(super) async fn visible(&self, user: &UserId, id: &FileId) -> Result<File, ApiError> {
        if let Some(file) = self.all_visible(user, std::slice::from_ref(id)).await?.pop() {
            return Ok(file);
        }
        let file = self.file(id).await?;
        if !file.is_complete() {
            return Err(no_file());
        }
        Err(ApiError::Forbidden("you may see no message with this file".to_owned()))
    }

    /// The numbers above which `user` sees messages, of those conversations of `files` that it is in.
    async fn floors(
        &self,
        user: &UserId,
        files: impl Iterator<Item = &File>,
    ) -> Result<AHashMap<Conversation, Seq>, ApiError> {
        let mut floors = AHashMap::new();
        let mut asked: Vec<&Conversation> = files.filter_map(|file| file.conversation.as_ref()).collect();
        asked.sort_unstable();
        asked.dedup();
        for conversation in asked {
            match self.memberships.permissions_inside(conversation, user).await {
                Ok(permissions) => {
                    floors.insert(conversation.clone(), permissions.floor());
                }
                Err(ApiError::Forbidden(_) | ApiError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(floors)
    }
}

/// Whether a user may see a file that is complete, whatever carries it.
fn is_open(file: &File, user: &UserId) -> bool {
    file.conversation.is_none() || file.uploader == *user
}
