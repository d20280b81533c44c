//! `/api/uploads`: files on their way to the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shared::conversation::Conversation;
use shared::message::FileId;
use shared::mysql::files::FileState;

use super::answer::{Answer, done, json};
use super::call::Call;
use super::conversation_id::conversation;
use super::refusals::{method_not_allowed, not_found};
use crate::features::Feature;
use crate::files::{Begun, Files, PartAddress, UploadRequest, UploadWay};
use crate::wire::api_error::ApiError;
use crate::wire::attachment::AttachmentView;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("POST", []) => begin(call).await,
        ("GET", [id]) => show(id, call).await,
        ("DELETE", [id]) => cancel(id, call).await,
        ("POST", [id, "complete"]) => complete(id, call).await,
        ("POST", [id, "parts"]) => parts(id, call).await,
        (_, [] | [_, "complete" | "parts"]) => Err(method_not_allowed("POST")),
        (_, [_]) => Err(method_not_allowed("GET, DELETE")),
        _ => Err(not_found()),
    }
}

/// The service, where files are switched on.
///
/// # Errors
/// 400 with the name of the setting.
pub(super) fn service(call: &Call) -> Result<Arc<Files>, ApiError> {
    call.deps.connections.settings.features.require(Feature::Files)?;
    call.deps.files.clone().ok_or(ApiError::Internal)
}

/// The id of a file in a path.
///
/// # Errors
/// 400
pub(super) fn file_id(text: &str) -> Result<FileId, ApiError> {
    FileId::parse(text).map_err(ApiError::malformed)
}

/// Headers that a client has to send with its bytes: none at present.
#[derive(Serialize)]
struct Headers {}

#[derive(Deserialize)]
struct BeginBody {
    conversation_id: Option<String>,
    name: String,
    size: u64,
    content_type: String,
    #[serde(default)]
    parts: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum BegunView {
    Whole { file_id: FileId, method: &'static str, url: String, headers: Headers, expires_at: i64 },
    Parts { file_id: FileId, part_size: u32, part_count: u64, expires_at: i64 },
}

async fn begin(call: Call) -> Answer {
    let files = service(&call)?;
    let user = call.user()?;
    let body: BeginBody = call.json().await?;
    let named = |id: String| conversation(&id, &call);
    let conversation: Option<Conversation> = body.conversation_id.map(named).transpose()?;
    let BeginBody { name, size, content_type, parts, .. } = body;
    let request = UploadRequest { conversation, name, size, content_type, parts };
    let Begun { file_id, expires_at, way } = files.begin(user, &request, !call.is_operator()).await?;
    json(&match way {
        UploadWay::Whole(url) => {
            BegunView::Whole { file_id, method: "PUT", url, headers: Headers {}, expires_at }
        }
        UploadWay::Parts { size: part_size, count: part_count } => {
            BegunView::Parts { file_id, part_size, part_count, expires_at }
        }
    })
}

#[derive(Serialize)]
struct StateView<'a> {
    file_id: &'a FileId,
    name: &'a str,
    size: u64,
    content_type: &'a str,
    completed: bool,
    expires_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    part_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<Vec<u32>>,
}

async fn show(id: &str, call: Call) -> Answer {
    let (files, user) = (service(&call)?, call.user()?);
    let state = files.upload_state(user, &file_id(id)?).await?;
    let object = &state.file.object;
    json(&StateView {
        file_id: &state.file.file_id,
        name: &state.file.name,
        size: object.size,
        content_type: &object.content_type,
        completed: state.file.state == FileState::Complete,
        expires_at: state.expires_at,
        part_size: object.part_size,
        part_count: object.part_size.map(|part| object.size.div_ceil(part.into())),
        received: state.received,
    })
}

async fn cancel(id: &str, call: Call) -> Answer {
    let (files, user) = (service(&call)?, call.user()?);
    files.cancel(user, &file_id(id)?).await?;
    done()
}

async fn complete(id: &str, call: Call) -> Answer {
    let (files, user) = (service(&call)?, call.user()?);
    let file = files.complete(user, &file_id(id)?).await?;
    json(&AttachmentView::from(file.attachment()))
}

#[derive(Deserialize)]
struct PartsBody {
    numbers: Vec<u32>,
}

#[derive(Serialize)]
struct PartView {
    number: u32,
    method: &'static str,
    url: String,
    headers: Headers,
}

#[derive(Serialize)]
struct PartsView {
    parts: Vec<PartView>,
}

async fn parts(id: &str, call: Call) -> Answer {
    let (files, user) = (service(&call)?, call.user()?);
    let body: PartsBody = call.json().await?;
    let addresses = files.part_addresses(user, &file_id(id)?, &body.numbers).await?;
    let view = |PartAddress { number, url }| PartView { number, method: "PUT", url, headers: Headers {} };
    json(&PartsView { parts: addresses.into_iter().map(view).collect() })
}
