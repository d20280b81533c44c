//! `/api/files`: links to files, and copies.

use filestore::link::Variant;
use serde::{Deserialize, Serialize};
use shared::message::FileId;

use super::answer::{Answer, json, redirect};
use super::call::Call;
use super::conversation_id::conversation;
use super::refusals::{method_not_allowed, not_found};
use super::uploads::{file_id, service};
use crate::files::Link;
use crate::wire::api_error::ApiError;
use crate::wire::attachment::AttachmentView;

/// Most files of one call.
const LINKS_MAX: usize = 100;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("POST", ["links"]) => links(call).await,
        ("GET", [id]) => follow(id, call).await,
        ("POST", [id, "copy"]) => copy(id, call).await,
        (_, ["links"] | [_, "copy"]) => Err(method_not_allowed("POST")),
        (_, [_]) => Err(method_not_allowed("GET")),
        _ => Err(not_found()),
    }
}

fn variant(name: Option<&str>) -> Result<Variant, ApiError> {
    let Some(name) = name else { return Ok(Variant::Original) };
    Variant::parse(name).ok_or_else(|| ApiError::malformed("size must be \"thumb\" or \"original\""))
}

#[derive(Deserialize)]
struct LinksBody {
    file_ids: Vec<FileId>,
    size: Option<String>,
}

#[derive(Serialize)]
struct LinkView {
    file_id: FileId,
    url: String,
    expires_at: i64,
}

#[derive(Serialize)]
struct LinksView {
    links: Vec<LinkView>,
}

async fn links(call: Call) -> Answer {
    let (files, user) = (service(&call)?, call.user()?);
    let LinksBody { mut file_ids, size } = call.json().await?;
    let variant = variant(size.as_deref())?;
    if file_ids.len() > LINKS_MAX {
        return Err(ApiError::malformed("file_ids must have at most 100 entries"));
    }
    file_ids.sort_unstable();
    file_ids.dedup();
    let links = files.links(user, &file_ids, variant).await?;
    let view = |Link { file_id, url, expires_at }| LinkView { file_id, url, expires_at };
    json(&LinksView { links: links.into_iter().map(view).collect() })
}

async fn follow(id: &str, call: Call) -> Answer {
    let (files, user) = (service(&call)?, call.user()?);
    let variant = variant(call.parameter("size").as_deref())?;
    Ok(redirect(&files.link_to(user, &file_id(id)?, variant).await?.url))
}

#[derive(Deserialize)]
struct CopyBody {
    conversation_id: String,
}

async fn copy(id: &str, call: Call) -> Answer {
    let (files, user) = (service(&call)?, call.user()?);
    let body: CopyBody = call.json().await?;
    let conversation = conversation(&body.conversation_id, &call)?;
    let file = files.copy(user, &file_id(id)?, &conversation).await?;
    json(&AttachmentView::from(file.attachment()))
}
