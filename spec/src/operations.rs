//! The operations of `openapi.yaml`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::documents::{Documents, escaped, resolved};
use super::parameters::Parameter;

const METHODS: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

/// One documented call.
#[derive(Debug, Clone)]
pub struct Operation {
    /// `GET`
    pub method: String,
    /// `/api/groups/{conversation_id}`
    pub path: String,
    pub(crate) parameters: Vec<Parameter>,
    /// The pointer of the JSON body, and whether a body is required.
    pub(crate) request: Option<(String, bool)>,
    pub(crate) responses: BTreeMap<u16, Response>,
}

/// A documented answer: the pointers of its schemas, by content type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) content: BTreeMap<String, String>,
}

impl Operation {
    /// All operations.
    pub(crate) fn all(documents: &Documents) -> Vec<Self> {
        let openapi = documents.get("openapi.yaml");
        let paths = openapi.get("paths").and_then(Value::as_object);
        let mut operations = Vec::new();
        for (path, item) in paths.into_iter().flatten() {
            for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
                let of_path = format!("/paths/{}", escaped(path));
                let pointer = format!("{of_path}/{method}");
                operations.push(Self {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    parameters: Parameter::all(documents, &of_path, &pointer),
                    request: request(openapi, &pointer),
                    responses: responses(openapi, &pointer),
                });
            }
        }
        operations
    }

    /// The parts of the path.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').skip(1)
    }

    /// The decoded values of the path's parameters, if `path` is one of this operation; and how many of its parts are
    /// written out.
    pub(crate) fn matches(&self, path: &str) -> Option<(usize, Vec<(String, String)>)> {
        let given: Vec<&str> = path.split('/').skip(1).collect();
        if given.len() != self.segments().count() {
            return None;
        }
        let (mut literal, mut values) = (0, Vec::new());
        for (expected, given) in self.segments().zip(given) {
            let given = percent_decode_str(given).decode_utf8_lossy().into_owned();
            match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(_) if given.is_empty() => return None,
                Some(name) => values.push((name.to_owned(), given)),
                None if expected == given => literal += 1,
                None => return None,
            }
        }
        Some((literal, values))
    }
}

fn request(openapi: &Value, operation: &str) -> Option<(String, bool)> {
    let body = resolved(openapi, &format!("{operation}/requestBody"))?;
    let schema = format!("{body}/content/application~1json/schema");
    openapi.pointer(&schema)?;
    let is_required = openapi.pointer(&format!("{body}/required")).and_then(Value::as_bool);
    Some((schema, is_required.unwrap_or(false)))
}

fn responses(openapi: &Value, operation: &str) -> BTreeMap<u16, Response> {
    let pointer = format!("{operation}/responses");
    let documented = openapi.pointer(&pointer).and_then(Value::as_object);
    let mut responses = BTreeMap::new();
    for status in documented.into_iter().flat_map(serde_json::Map::keys) {
        let (Ok(code), Some(response)) =
            (status.parse(), resolved(openapi, &format!("{pointer}/{}", escaped(status))))
        else {
            continue;
        };
        let content = openapi.pointer(&format!("{response}/content")).and_then(Value::as_object);
        let of_type = |kind: &String| (kind.clone(), format!("{response}/content/{}/schema", escaped(kind)));
        let content = content.into_iter().flat_map(serde_json::Map::keys).map(of_type).collect();
        responses.insert(code, Response { content });
    }
    responses
}
