//! `PATCH` and `DELETE /api/conversations/{id}`: what a user sets for a conversation, and clearing it for itself.

use serde::{Deserialize, Deserializer, Serialize};
use shared::ids::UNIX_MILLIS_MAX;
use shared::mysql::views::{DRAFT_BYTES_MAX, ViewSettings, ViewUpdate};

use super::answer::{Answer, done, json};
use super::call::Call;
use super::conversation_id::conversation;
use crate::features::Feature;
use crate::wire::api_error::ApiError;
use crate::wire::number;

/// The value of `muted_until` that has no end.
const FOR_EVER: i64 = -1;

#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "number::optional_capped")]
    muted_until: Option<i64>,
    pinned: Option<bool>,
    archived: Option<bool>,
    marked_unread: Option<bool>,
    #[serde(default, deserialize_with = "nullable")]
    draft: Option<Option<String>>,
}

/// `null` is a value: it takes the draft away.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Body {
    fn update(self) -> Result<ViewUpdate, ApiError> {
        let Self { muted_until, pinned, archived, marked_unread, draft } = self;
        if muted_until.is_some_and(|until| until < FOR_EVER) {
            return Err(ApiError::malformed(
                "muted_until must be a time in milliseconds since 1970, -1 for ever, or 0 to end it",
            ));
        }
        if let Some(Some(draft)) = &draft
            && draft.len() > DRAFT_BYTES_MAX
        {
            return Err(ApiError::TooLarge(format!(
                "draft has {} bytes: at most {DRAFT_BYTES_MAX} are kept",
                draft.len()
            )));
        }
        let update = ViewUpdate {
            muted_until: muted_until.map(|until| until.min(UNIX_MILLIS_MAX)),
            pinned,
            archived,
            marked_unread,
            // An empty draft is none.
            draft: draft.map(|draft| draft.filter(|text| !text.is_empty())),
        };
        if update == ViewUpdate::default() {
            return Err(ApiError::malformed(
                "nothing to change: send muted_until, pinned, archived, marked_unread or draft",
            ));
        }
        Ok(update)
    }
}

#[derive(Serialize)]
struct Updated {
    settings: ViewSettings,
}

pub(super) async fn update(id: &str, call: Call) -> Answer {
    call.deps.connections.settings.features.require(Feature::Settings)?;
    let conversation = conversation(id, &call)?;
    let body: Body = call.json_with_null(&["draft"]).await?;
    let settings = call.deps.views.update(call.user()?, &conversation, &body.update()?).await?;
    json(&Updated { settings })
}

pub(super) async fn clear(id: &str, call: Call) -> Answer {
    call.deps.connections.settings.features.require(Feature::Settings)?;
    let conversation = conversation(id, &call)?;
    call.deps.views.clear(call.user()?, &conversation).await?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ViewUpdate, u16> {
        let body: Body = serde_json::from_str(text).map_err(|_| 400_u16)?;
        body.update().map_err(|error| error.code())
    }

    #[test]
    fn a_body_names_what_changes() {
        let none = ViewUpdate::default();
        let draft =
            |draft: Option<&str>| ViewUpdate { draft: Some(draft.map(str::to_owned)), ..none.clone() };
        let muted = |until| ViewUpdate { muted_until: Some(until), ..none.clone() };
        for (text, expected) in [
            (r#"{"pinned":true}"#, Ok(ViewUpdate { pinned: Some(true), ..none.clone() })),
            (r#"{"archived":false}"#, Ok(ViewUpdate { archived: Some(false), ..none.clone() })),
            (r#"{"marked_unread":true,"x":1}"#, Ok(ViewUpdate { marked_unread: Some(true), ..none.clone() })),
            (r#"{"muted_until":-1}"#, Ok(muted(-1))),
            (r#"{"muted_until":9000000000000000}"#, Ok(muted(UNIX_MILLIS_MAX))),
            (r#"{"muted_until":1.7e12}"#, Ok(muted(1_700_000_000_000))),
            (r#"{"muted_until":1e20}"#, Ok(muted(UNIX_MILLIS_MAX))),
            (r#"{"muted_until":0.0}"#, Ok(muted(0))),
            (r#"{"muted_until":-2}"#, Err(400)),
            (r#"{"muted_until":1.5}"#, Err(400)),
            (r#"{"muted_until":true}"#, Err(400)),
            (r#"{"draft":"x"}"#, Ok(draft(Some("x")))),
            (r#"{"draft":null}"#, Ok(draft(None))),
            (r#"{"draft":""}"#, Ok(draft(None))),
            (r#"{"draft":5}"#, Err(400)),
            (r#"{"pinned":1}"#, Err(400)),
            ("{}", Err(400)),
            (r#"{"color":"red"}"#, Err(400)),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        let of_bytes = |bytes: usize| parsed(&format!(r#"{{"draft":"{}"}}"#, "é".repeat(bytes / 2)));
        assert!(of_bytes(4_096).is_ok());
        assert_eq!(of_bytes(4_098), Err(413));
        assert_eq!(parsed(&format!(r#"{{"draft":"{}"}}"#, "x".repeat(4_097))), Err(413));
    }
}
