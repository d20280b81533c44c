//! `/api/openapi.yaml`, `/api/asyncapi.yaml` and `/api/schemas/…`: the files of `docs/api`, part of the program.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use warp::http::StatusCode;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use warp::reply::Response;

use super::answer::Answer;
use super::call::Call;
use super::refusals::{method_not_allowed, not_found};
use crate::wire::api_error::ApiError;

const YAML: &str = "application/yaml";
const SCHEMA: &str = "application/schema+json";
/// The files change with the version of the gateway only. A cache may be this old after an upgrade.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

const OPENAPI: &str = include_str!("../../../docs/api/openapi.yaml");
const ASYNCAPI: &str = include_str!("../../../docs/api/asyncapi.yaml");

macro_rules! schemas {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../docs/api/schemas/", $name)))),*]
    };
}

/// The files of `docs/api/schemas`.
const SCHEMAS: [(&str, &str); 34] = schemas![
    "client.ack.json" "client.chat.json" "client.heartbeat.json" "client.json" "client.login.json"
    "client.pull.json" "client.sync.json" "client.typing.json" "client.watch.json"
    "event.ack.json" "event.cleared.json" "event.dismissed.json" "event.group_updated.json" "event.invited.json"
    "event.joined.json" "event.left.json" "event.presence.json" "event.read.json" "event.resync.json"
    "event.settings.json" "event.token_expiring.json" "event.typing.json"
    "server.ack.json" "server.chat.json" "server.error.json" "server.heartbeat.json" "server.json"
    "server.login.json" "server.pull.json" "server.push.json" "server.sync.json" "server.typing.json"
    "server.watch.json"
    "types.json"
];

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", ["openapi.yaml"]) => file(OPENAPI, YAML, &call),
        ("GET", ["asyncapi.yaml"]) => file(ASYNCAPI, YAML, &call),
        ("GET", ["schemas", name]) => file(schema(name)?, SCHEMA, &call),
        (_, ["openapi.yaml" | "asyncapi.yaml"] | ["schemas", _]) => Err(method_not_allowed("GET")),
        _ => Err(not_found()),
    }
}

fn schema(name: &str) -> Result<&'static str, ApiError> {
    let found = SCHEMAS.iter().find(|(file, _)| *file == name);
    found.map(|(_, text)| *text).ok_or_else(|| {
        ApiError::NotFound("no such schema: asyncapi.yaml and openapi.yaml name all of them".to_owned())
    })
}

/// 200 with the file, or 304 if the client has it.
fn file(text: &'static str, content_type: &'static str, call: &Call) -> Answer {
    let tag = tag(text);
    let known = call.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|one| is_tag(one.trim(), &tag));
    let mut response = if is_known { Response::default() } else { Response::new(text.into()) };
    let fields = response.headers_mut();
    fields.insert(CACHE_CONTROL, CACHED);
    fields.insert(ETAG, HeaderValue::from_str(&tag).map_err(|_| ApiError::Internal)?);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Ok(response)
}

/// The entity tag of a text: equal on gateways of one build.
fn tag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether an element of `If-None-Match` names `tag`; a weak tag does, too (RFC 9110, section 13.1.2).
fn is_tag(given: &str, tag: &str) -> bool {
    given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api/schemas");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
        files.sort_unstable();
        let served = SCHEMAS.map(|(name, _)| name);
        assert_eq!(served.as_slice(), files, "add new files of docs/api/schemas to SCHEMAS, in this order");
    }

    #[test]
    fn a_client_has_the_file_if_one_of_its_tags_is_the_files() {
        let tag = tag(OPENAPI);
        assert_ne!(tag, super::tag(ASYNCAPI));
        for (given, known) in [(tag.as_str(), true), ("*", true), ("\"x\"", false), ("", false)] {
            assert_eq!(is_tag(given, &tag), known, "{given}");
        }
        assert!(is_tag(&format!("W/{tag}"), &tag));
    }
}
