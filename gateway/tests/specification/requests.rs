//! The schemas of requests and the parser of the gateway agree.

use gateway::wire::request::parse;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use spec::{Strictness, api};

/// Whether the parser and the schemas say the same about a frame.
fn check(frame: &Value) -> Result<(), TestCaseError> {
    let text = frame.to_string();
    let parsed = parse(&text);
    let conforms = api().check_client_frame(frame, Strictness::Open);
    match (&parsed, &conforms) {
        (Ok(_), Err(why)) => prop_assert!(false, "the gateway takes {text}, which has no schema: {why}"),
        // The length of a content is limited in bytes, which a schema cannot say.
        (Err((_, refusal)), Ok(())) if refusal.code() != 413 => {
            prop_assert!(false, "{text} has a schema, and the gateway says: {}", refusal.message());
        }
        _ => {}
    }
    Ok(())
}

#[test]
fn frames_of_the_corpus_have_a_schema_if_they_are_understood() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/corpus/frames");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        // Fields that are given twice are gone in a `Value`.
        let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
        check(&frame).unwrap();
        checked += 1;
    }
    assert!(checked > 15, "{checked}");
}

/// Well-formed frames of each `cmd`.
fn frames() -> Vec<Value> {
    let examples = api().documents().schemas().filter(|(name, _)| name.starts_with("client."));
    examples.flat_map(|(_, schema)| schema["examples"].as_array().cloned().unwrap_or_default()).collect()
}

fn values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(""),
        json!("x"),
        json!("white space"),
        json!("x".repeat(64)),
        json!("x".repeat(65)),
        json!("{x}"),
        json!("\u{3000}"),
        json!("é😀"),
        json!("stored"),
        json!("backward"),
        json!(0),
        json!(1),
        json!(3),
        json!(3.0),
        json!(1.5),
        json!(-1),
        json!(500),
        json!(501),
        json!(9_007_199_254_740_991_u64),
        json!(9_007_199_254_740_992_u64),
        json!(8_640_000_000_000_001_u64),
        json!([]),
        json!({}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Names of conversations are checked after parsing, by their meaning for the user.
    #[test]
    fn a_frame_with_other_values_is_understood_if_it_has_a_schema(
        frame in select(frames()),
        field in select(vec!["cmd", "msg_id", "cursor_seq", "payload", "conversation_id", "to"]),
        in_payload in select(vec!["", "content", "msg_type", "recall_seq", "edit_seq", "react_seq", "reaction", "pin_seq", "remove", "meta", "reply_to", "mentions", "send_time", "ack", "limit", "direction", "token", "device_id", "user_ids"]),
        value in select(values()),
    ) {
        let mut frame = frame;
        let payload = frame.get_mut("payload").and_then(Value::as_object_mut);
        match payload {
            Some(payload) if !in_payload.is_empty() => {
                let msg_type = payload.get("msg_type").and_then(Value::as_u64).unwrap_or(1);
                // Fields that a request does not need are ignored, whatever they hold.
                let is_needed = match in_payload {
                    "content" | "meta" | "reply_to" | "mentions" => !matches!(msg_type, 3 | 5 | 6),
                    "recall_seq" => msg_type == 3,
                    "edit_seq" => msg_type == 4,
                    "react_seq" | "reaction" => msg_type == 5,
                    "pin_seq" => msg_type == 6,
                    "remove" => matches!(msg_type, 5 | 6),
                    _ => true,
                };
                if is_needed {
                    payload.insert(in_payload.to_owned(), value);
                }
            }
            _ if matches!(field, "conversation_id" | "to") => { frame.as_object_mut().unwrap().remove(field); }
            _ => frame[field] = value,
        }
        check(&frame)?;
    }
}
