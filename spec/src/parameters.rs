//! Parameters of paths and query strings.

use serde_json::Value;

use super::documents::{Documents, resolved};

/// A documented parameter.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) is_in_path: bool,
    pub(crate) is_required: bool,
    /// The pointer of its schema in `openapi.yaml`.
    pub(crate) schema: String,
    kind: Kind,
}

/// How the text of a parameter is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    List,
}

impl Parameter {
    /// The parameter at `pointer`; `None` for headers.
    pub(crate) fn read(openapi: &Value, pointer: &str) -> Option<Self> {
        let pointer = resolved(openapi, pointer)?;
        let parameter = openapi.pointer(&pointer)?;
        let is_in_path = match parameter.get("in")?.as_str()? {
            "path" => true,
            "query" => false,
            _ => return None,
        };
        let kind = match parameter.pointer("/schema/type").and_then(Value::as_str) {
            Some("integer") => Kind::Number,
            Some("array") => Kind::List,
            _ => Kind::Text,
        };
        Some(Self {
            name: parameter.get("name")?.as_str()?.to_owned(),
            is_in_path,
            is_required: parameter.get("required").and_then(Value::as_bool).unwrap_or(false),
            schema: format!("{pointer}/schema"),
            kind,
        })
    }

    /// All parameters of the operation at `operation` in the path at `path`.
    pub(crate) fn all(documents: &Documents, path: &str, operation: &str) -> Vec<Self> {
        let openapi = documents.get("openapi.yaml");
        let of = |owner: &str| {
            let pointer = format!("{owner}/parameters");
            let count = openapi.pointer(&pointer).and_then(Value::as_array).map_or(0, Vec::len);
            (0..count).map(move |n| format!("{pointer}/{n}"))
        };
        of(path).chain(of(operation)).filter_map(|pointer| Self::read(openapi, &pointer)).collect()
    }

    /// The JSON value that `text` stands for.
    pub(crate) fn value(&self, text: &str) -> Value {
        match self.kind {
            Kind::Text => text.into(),
            Kind::Number => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            Kind::List => text.split(',').filter(|item| !item.is_empty()).collect(),
        }
    }
}
