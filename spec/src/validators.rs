//! Compiled schemas, by where they are in the documents.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::{Registry, Validator};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::closing::close;
use super::documents::Documents;

/// The documents refer to each other by relative names; no host has this name.
const BASE: &str = "https://specification.invalid/api/";

/// Whether fields that a schema does not name are a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// As published: other fields are ignored.
    Open,
    /// Other fields are a fault.
    Closed,
}

/// Compiles schemas when they are first needed.
pub(crate) struct Validators {
    registry: Registry<'static>,
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

impl fmt::Debug for Validators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validators").finish_non_exhaustive()
    }
}

impl Validators {
    pub(crate) fn new(documents: &Documents, strictness: Strictness) -> Result<Self, String> {
        let mut registry = Registry::new();
        for (name, document) in documents.iter() {
            let mut document = document.clone();
            if strictness == Strictness::Closed {
                close(&mut document);
            }
            registry = registry
                .add(format!("{BASE}{name}"), document)
                .map_err(|error| format!("{name}: {error}"))?;
        }
        let registry = registry.prepare().map_err(|error| error.to_string())?;
        Ok(Self { registry, compiled: Mutex::default() })
    }

    /// Checks `value` against the schema at `place`: `schemas/types.json#/$defs/seq`.
    pub(crate) fn check(&self, place: &str, value: &Value) -> Result<(), String> {
        let validator = self.compiled(place)?;
        let faults: Vec<String> = validator
            .iter_errors(value)
            .map(|error| match error.instance_path().to_string() {
                path if path.is_empty() => error.to_string(),
                path => format!("{path}: {error}"),
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(format!("{place}: {}", faults.join("; "))) }
    }

    fn compiled(&self, place: &str) -> Result<Arc<Validator>, String> {
        if let Some(compiled) = self.compiled.lock().get(place) {
            return Ok(Arc::clone(compiled));
        }
        // Paths have parameters in braces, which no URI contains.
        let place_in_uri = place.replace('{', "%7B").replace('}', "%7D");
        let schema = json!({"$ref": format!("{BASE}{place_in_uri}")});
        let options = jsonschema::options().with_registry(&self.registry).offline();
        let validator = options.build(&schema).map_err(|error| format!("{place} is no schema: {error}"))?;
        let validator = Arc::new(validator);
        self.compiled.lock().insert(place.to_owned(), Arc::clone(&validator));
        Ok(validator)
    }
}
