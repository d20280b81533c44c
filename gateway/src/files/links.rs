//! Links to files.

use filestore::link::{LinkTarget, STEP_S, Variant};
use shared::ids::UserId;
use shared::message::FileId;
use shared::mysql::files::File;

use super::service::{Files, now_s, store_failed};
use crate::wire::api_error::ApiError;

/// A link to a file.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) file_id: FileId,
    pub(crate) url: String,
    /// In milliseconds since 1970.
    pub(crate) expires_at: i64,
}

impl Files {
    /// Links to those of the files that `user` may see.
    ///
    /// # Errors
    /// 503
    pub(crate) async fn links(
        &self,
        user: &UserId,
        ids: &[FileId],
        variant: Variant,
    ) -> Result<Vec<Link>, ApiError> {
        let files = self.all_visible(user, ids).await?;
        let mut links = Vec::with_capacity(files.len());
        for file in &files {
            links.push(self.link(file, variant).await?);
        }
        Ok(links)
    }

    /// A link to the file `id`.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn link_to(
        &self,
        user: &UserId,
        id: &FileId,
        variant: Variant,
    ) -> Result<Link, ApiError> {
        let file = self.visible(user, id).await?;
        self.link(&file, variant).await
    }

    async fn link(&self, file: &File, variant: Variant) -> Result<Link, ApiError> {
        let (config, now_s) = (self.settings(), now_s());
        let limits = &config.files;
        let valid_s = u64::from(limits.links_valid_s);
        let target = target(file, variant);
        let expires_s = now_s - now_s % STEP_S + valid_s + STEP_S;
        let url = if limits.cdn_base_url.is_empty() {
            let at_store = self.store.link(&target, now_s, valid_s).await;
            at_store.map_err(|error| store_failed(&error))?
        } else {
            None
        };
        let url = match url {
            Some(url) => url,
            None => {
                let key = self.key.as_ref().ok_or(ApiError::Internal)?;
                let is_cdn = !limits.cdn_base_url.is_empty();
                let base = if is_cdn { &limits.cdn_base_url } else { &limits.base_url };
                format!("{base}{}", key.link(&target, now_s))
            }
        };
        let expires_at = i64::try_from(expires_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        Ok(Link { file_id: file.file_id.clone(), url, expires_at })
    }
}

/// What a link to `file` leads to: where there is no small picture (yet), to the original.
fn target(file: &File, variant: Variant) -> LinkTarget {
    let (variant, content_type) = match (variant, &file.object.thumb_type) {
        (Variant::Thumb, Some(content_type)) => (Variant::Thumb, content_type),
        _ => (Variant::Original, &file.object.content_type),
    };
    LinkTarget {
        object_id: file.object.object_id.clone(),
        variant,
        content_type: content_type.clone(),
        name: file.name.clone(),
    }
}
