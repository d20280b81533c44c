//! Checks of frames and HTTP calls against the specifications.

use std::sync::LazyLock;

use serde_json::Value;

use super::documents::Documents;
use super::frames::Frames;
use super::operations::{Operation, Response};
use super::validators::{Strictness, Validators};

/// The specifications of this source tree.
///
/// # Panics
/// A file of `docs/api` cannot be read.
#[must_use]
pub fn api() -> &'static Api {
    static API: LazyLock<Api> = LazyLock::new(|| match Api::read() {
        Ok(api) => api,
        Err(error) => panic!("docs/api: {error}"),
    });
    &API
}

/// The specifications, compiled when needed.
#[derive(Debug)]
pub struct Api {
    documents: Documents,
    operations: Vec<Operation>,
    frames: Frames,
    open: Validators,
    closed: Validators,
}

/// An HTTP call and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// `GET`
    pub method: &'a str,
    /// The path with its query string, as sent.
    pub path: &'a str,
    /// The body, if there is one.
    pub request: Option<&'a Value>,
    /// The status of the answer.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body of the answer.
    pub body: &'a str,
}

impl Api {
    /// Reads the specifications.
    ///
    /// # Errors
    /// The file that cannot be read, and why.
    pub fn read() -> Result<Self, String> {
        let documents = Documents::read()?;
        Ok(Self {
            operations: Operation::all(&documents),
            frames: Frames::new(&documents),
            open: Validators::new(&documents, Strictness::Open)?,
            closed: Validators::new(&documents, Strictness::Closed)?,
            documents,
        })
    }

    /// The files.
    #[must_use]
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// All documented calls.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Checks a value against the schema at `place`: `schemas/types.json#/$defs/seq`.
    ///
    /// # Errors
    /// What does not conform.
    pub fn check(&self, place: &str, value: &Value, strictness: Strictness) -> Result<(), String> {
        match strictness {
            Strictness::Open => self.open.check(place, value),
            Strictness::Closed => self.closed.check(place, value),
        }
    }

    /// Checks a frame from the server: it has a schema, and no field that the schema does not name.
    ///
    /// # Errors
    /// What does not conform.
    pub fn check_server_frame(&self, frame: &Value) -> Result<(), String> {
        let name = self.frames.of_server(frame);
        let known = name.filter(|name| !self.documents.get(&format!("schemas/{name}.json")).is_null());
        let name = known.ok_or_else(|| {
            format!("no schema in docs/api/schemas is for this frame from the server: {frame}")
        })?;
        self.check(&format!("schemas/{name}.json"), frame, Strictness::Closed)
    }

    /// Checks a frame from a client.
    ///
    /// # Errors
    /// What does not conform.
    pub fn check_client_frame(&self, frame: &Value, strictness: Strictness) -> Result<(), String> {
        let name = self.frames.of_client(frame);
        let name = name.ok_or_else(|| {
            format!("no schema in docs/api/schemas is for this frame from a client: {frame}")
        })?;
        self.check(&format!("schemas/{name}.json"), frame, strictness)
    }

    /// The documented call that `method` and `path` are.
    fn operation(&self, method: &str, path: &str) -> Option<(&Operation, Vec<(String, String)>)> {
        let of_method = self.operations.iter().filter(|operation| operation.method == method);
        let matching = of_method.filter_map(|operation| {
            let (literal, values) = operation.matches(path)?;
            Some((literal, operation, values))
        });
        // A path that is written out comes before one with a parameter.
        let best = matching.max_by_key(|(literal, ..)| *literal);
        best.map(|(_, operation, values)| (operation, values))
    }

    /// Checks an answer: its status is documented, and its body has the documented form without other fields. A call that
    /// succeeded was one that the specification allows.
    ///
    /// # Errors
    /// What does not conform.
    pub fn check_exchange(&self, exchange: &Exchange<'_>) -> Result<(), String> {
        let Exchange { method, path, status, .. } = *exchange;
        let described = |fault: String| format!("{method} {path} {status}: {fault}");
        let is_success = status < 400;
        let path_alone = path.split('?').next().unwrap_or_default();
        let called = if method == "HEAD" { "GET" } else { method };
        let Some((operation, _)) = self.operation(called, path_alone) else {
            let is_known = is_success && method != "OPTIONS";
            let fault = "docs/api/openapi.yaml has no such call: describe it under paths".to_owned();
            return if is_known { Err(described(fault)) } else { Ok(()) };
        };
        let response = operation.responses.get(&status).ok_or_else(|| {
            described(format!("{} {} has no such answer in docs/api/openapi.yaml", called, operation.path))
        })?;
        if method != "HEAD" {
            self.check_body(response, exchange).map_err(described)?;
        }
        if is_success {
            self.check_request(called, path, exchange.request, Strictness::Open).map_err(described)?;
        }
        Ok(())
    }

    fn check_body(&self, response: &Response, exchange: &Exchange<'_>) -> Result<(), String> {
        let Exchange { content_type, body, .. } = *exchange;
        let Some(content_type) = content_type.and_then(|kind| kind.split(';').next()) else {
            let is_empty = body.is_empty() && response.content.is_empty();
            return if is_empty { Ok(()) } else { Err("the answer has no Content-Type".to_owned()) };
        };
        let schema = response.content.get(content_type.trim());
        let schema = schema.ok_or_else(|| format!("the content type {content_type} is not documented"))?;
        let value = if content_type.ends_with("json") {
            serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?
        } else {
            Value::from(body)
        };
        self.closed.check(&format!("openapi.yaml#{schema}"), &value)
    }

    /// Checks a call: its parameters and body have the documented form.
    ///
    /// # Errors
    /// What does not conform.
    pub fn check_request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        strictness: Strictness,
    ) -> Result<(), String> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (operation, in_path) = self
            .operation(method, path)
            .ok_or_else(|| format!("docs/api/openapi.yaml has no call {method} {path}"))?;
        for parameter in &operation.parameters {
            let given = if parameter.is_in_path {
                in_path.iter().find(|(name, _)| *name == parameter.name).map(|(_, value)| value.clone())
            } else {
                let mut pairs = form_urlencoded::parse(query.as_bytes());
                pairs.find(|(name, _)| *name == parameter.name).map(|(_, value)| value.into_owned())
            };
            let place = format!("openapi.yaml#{}", parameter.schema);
            match given {
                Some(text) => self.check(&place, &parameter.value(&text), strictness)?,
                None if parameter.is_required => {
                    return Err(format!("the parameter {} is missing", parameter.name));
                }
                None => {}
            }
        }
        match (&operation.request, body) {
            (Some((schema, _)), Some(body)) => {
                self.check(&format!("openapi.yaml#{schema}"), body, strictness)
            }
            (Some((_, true)), None) => Err("the body is missing".to_owned()),
            (None, Some(_)) if strictness == Strictness::Closed => Err("no body is documented".to_owned()),
            _ => Ok(()),
        }
    }
}
