//! Closing of schemas: a field that a schema does not name is a fault.

use serde_json::{Map, Value};

/// Keywords whose schemas only restrict the object beside them.
const RESTRICTIONS: [&str; 4] = ["if", "then", "else", "not"];
/// Keywords whose schemas are alternatives, unless the object beside them has its fields itself.
const ALTERNATIVES: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// Adds `additionalProperties: false` to every schema that lists the fields of an object, and says nothing about others.
pub(crate) fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => close_object(fields),
        Value::Array(all) => all.iter_mut().for_each(close),
        _ => {}
    }
}

fn close_object(fields: &mut Map<String, Value>) {
    let lists_fields = fields.get("properties").is_some_and(Value::is_object);
    for (keyword, value) in &mut *fields {
        let keyword = keyword.as_str();
        let is_restriction = lists_fields && ALTERNATIVES.contains(&keyword);
        if is_restriction || RESTRICTIONS.contains(&keyword) || keyword == "examples" || keyword == "example"
        {
            continue;
        }
        if keyword == "properties" && lists_fields {
            // The names in here are of fields, not of keywords.
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(close);
        } else {
            close(value);
        }
    }
    if lists_fields && !fields.contains_key("additionalProperties") {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_closed_and_restrictions_are_not() {
        let mut schema = json!({
            "properties": {"if": {"properties": {"x": {}}}, "open": {"type": "object"}},
            "oneOf": [{"properties": {"if": {"type": "object"}}}],
            "then": {"properties": {"x": {}}},
        });
        close(&mut schema);
        assert_eq!(
            schema,
            json!({
                "properties": {
                    "if": {"properties": {"x": {}}, "additionalProperties": false},
                    "open": {"type": "object"},
                },
                "oneOf": [{"properties": {"if": {"type": "object"}}}],
                "then": {"properties": {"x": {}}},
                "additionalProperties": false,
            })
        );
        let mut alternatives = json!({"oneOf": [{"properties": {"a": {}}, "additionalProperties": true}]});
        let before = alternatives.clone();
        close(&mut alternatives);
        assert_eq!(alternatives, before);
    }
}
