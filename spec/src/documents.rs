//! The files of `docs/api`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// The files by their names relative to `docs/api`: `openapi.yaml`, `schemas/types.json`.
#[derive(Debug, Clone)]
pub struct Documents(BTreeMap<String, Value>);

impl Documents {
    /// Reads the files of this source tree.
    ///
    /// # Errors
    /// The file that cannot be read or parsed, and why.
    pub fn read() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api");
        let mut files = BTreeMap::new();
        for (prefix, folder) in [("", folder.clone()), ("schemas/", folder.join("schemas"))] {
            let named = |error: std::io::Error| format!("{}: {error}", folder.display());
            for entry in std::fs::read_dir(&folder).map_err(named)? {
                let path = entry.map_err(named)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let text = || std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"));
                let value: Value = if name.ends_with(".json") {
                    serde_json::from_str(&text()?).map_err(|error| format!("{name}: {error}"))?
                } else if name.ends_with(".yaml") {
                    serde_saphyr::from_str(&text()?).map_err(|error| format!("{name}: {error}"))?
                } else {
                    continue;
                };
                files.insert(format!("{prefix}{name}"), value);
            }
        }
        Ok(Self(files))
    }

    /// A file; `Null` if there is none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// All files with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, document)| (name.as_str(), document))
    }

    /// All schemas with their names: `server.pull`.
    pub fn schemas(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.iter().filter_map(|(name, schema)| {
            Some((name.strip_prefix("schemas/")?.strip_suffix(".json")?, schema))
        })
    }
}

/// A step of a JSON pointer.
pub(crate) fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

/// Follows references inside `document` from `pointer` on; returns the pointer of the value that is meant.
pub(crate) fn resolved(document: &Value, pointer: &str) -> Option<String> {
    let mut pointer = pointer.to_owned();
    // Longer chains of references do not occur.
    for _ in 0..8 {
        let value = document.pointer(&pointer)?;
        match value.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) {
            Some(target) => target.clone_into(&mut pointer),
            None => return Some(pointer),
        }
    }
    None
}
