//! The files of `docs/api` are valid, agree with each other and with docs/protocol.md, and their examples conform.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeSet;

use serde_json::Value;
use spec::{Strictness, api};

/// All values of `document` with their JSON pointers, that of the document first.
fn each<'d>(document: &'d Value, pointer: &str, visit: &mut impl FnMut(&str, &'d Value)) {
    visit(pointer, document);
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                each(value, &format!("{pointer}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                each(item, &format!("{pointer}/{n}"), visit);
            }
        }
        _ => {}
    }
}

/// The text of a file of the source tree.
fn source(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_reference_leads_to_something() {
    let documents = api().documents();
    let mut faults = Vec::new();
    for (name, document) in documents.iter() {
        let folder = if name.starts_with("schemas/") { "schemas/" } else { "" };
        each(document, "", &mut |pointer, value| {
            let Some(target) = value.get("$ref").and_then(Value::as_str) else { return };
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { name.to_owned() } else { format!("{folder}{file}") };
            if documents.get(&file).pointer(place).is_none() {
                faults.push(format!("docs/api/{name}{pointer}: {target} leads nowhere"));
            }
        });
    }
    report(&faults);
}

#[test]
fn every_schema_is_valid_and_its_examples_conform() {
    let mut faults = Vec::new();
    for (name, document) in api().documents().schemas() {
        if let Err(error) = jsonschema::meta::validate(document) {
            faults.push(format!("docs/api/schemas/{name}.json: {error}"));
        }
        each(document, "", &mut |pointer, value| {
            let Some(examples) = value.get("examples").and_then(Value::as_array) else { return };
            // A field may have this name.
            if pointer.ends_with("/properties") {
                return;
            }
            for example in examples {
                let place = format!("schemas/{name}.json#{pointer}");
                faults.extend(api().check(&place, example, Strictness::Closed).err());
            }
        });
        let is_frame = name.contains('.');
        if is_frame && document.get("examples").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            faults.push(format!("docs/api/schemas/{name}.json has no examples"));
        }
    }
    report(&faults);
}

#[test]
fn the_examples_of_a_frame_are_of_that_frame() {
    let mut faults = Vec::new();
    for (name, document) in api().documents().schemas() {
        for example in document.get("examples").and_then(Value::as_array).into_iter().flatten() {
            let (is_client, is_server) =
                (name.starts_with("client."), name.starts_with("server.") || name.starts_with("event."));
            if is_client {
                faults.extend(api().check_client_frame(example, Strictness::Closed).err());
                faults.extend(api().check("schemas/client.json", example, Strictness::Closed).err());
            }
            if is_server {
                faults.extend(api().check_server_frame(example).err());
                faults.extend(api().check("schemas/server.json", example, Strictness::Closed).err());
            }
        }
    }
    report(&faults);
}

#[test]
fn every_example_of_a_call_conforms() {
    let openapi = api().documents().get("openapi.yaml");
    let (mut faults, mut examples) = (Vec::new(), 0);
    each(openapi, "", &mut |pointer, value| {
        let Some(schema) = value.get("schema") else { return };
        let place = format!("openapi.yaml#{pointer}/schema");
        let several = value.get("examples").and_then(Value::as_object);
        let several = several.into_iter().flatten().filter_map(|(_, example)| example.get("value"));
        let mut any = false;
        for example in value.get("example").into_iter().chain(several) {
            faults.extend(api().check(&place, example, Strictness::Closed).err());
            examples += 1;
            any = true;
        }
        // The types of files and of metrics are texts.
        let needs_example = pointer.ends_with("/application~1json") && schema.get("const").is_none();
        if needs_example && !any && !pointer.contains("/426/") {
            faults.push(format!("docs/api/openapi.yaml#{pointer} has no example"));
        }
    });
    assert!(examples > 40, "{examples}");
    report(&faults);
}

#[test]
fn every_call_has_a_name_a_tag_and_its_usual_refusals() {
    let openapi = api().documents().get("openapi.yaml");
    let (mut faults, mut names) = (Vec::new(), BTreeSet::new());
    for operation in api().operations() {
        let path = operation.path.replace('/', "~1");
        let place = format!("/paths/{path}/{}", operation.method.to_lowercase());
        let described = openapi.pointer(&place).unwrap();
        let called = format!("docs/api/openapi.yaml: {} {}", operation.method, operation.path);
        match described["operationId"].as_str() {
            None => faults.push(format!("{called} has no operationId")),
            Some(name) if !names.insert(name) => faults.push(format!("{called}: {name} is used twice")),
            Some(_) => {}
        }
        let tags: Vec<_> = openapi["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
        if !described["tags"].as_array().is_some_and(|own| own.iter().all(|tag| tags.contains(&tag))) {
            faults.push(format!("{called} has no tag of those that the file lists"));
        }
        if described["summary"].as_str().is_none() {
            faults.push(format!("{called} has no summary"));
        }
        if !operation.path.starts_with("/api/") {
            continue;
        }
        let security = described.get("security").unwrap_or(&openapi["security"]);
        let is_open = security.as_array().unwrap().contains(&serde_json::json!({}));
        // A page of another origin, a rate limit, a fault, an overload.
        let mut usual = vec!["403", "429", "500", "503"];
        if !is_open {
            usual.extend(["400", "401"]);
        }
        if described.get("requestBody").is_some() {
            usual.extend(["400", "408", "413"]);
        }
        for status in usual {
            if described["responses"].get(status).is_none() {
                faults.push(format!("{called} does not describe the answer {status}"));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_frame_stands_in_the_asyncapi_file() {
    let documents = api().documents();
    let asyncapi = documents.get("asyncapi.yaml");
    let messages = asyncapi["components"]["messages"].as_object().unwrap();
    let in_channel = asyncapi["channels"]["socket"]["messages"].as_object().unwrap();
    let frames: BTreeSet<&str> =
        documents.schemas().map(|(name, _)| name).filter(|name| name.contains('.')).collect();
    let names = |map: &'static serde_json::Map<String, Value>| -> BTreeSet<&str> {
        map.keys().map(String::as_str).collect()
    };
    assert_eq!(names(messages), frames, "components.messages and the files of docs/api/schemas");
    assert_eq!(names(in_channel), frames, "the messages of the channel");
    for (name, message) in messages {
        assert_eq!(message["payload"]["$ref"], format!("schemas/{name}.json"));
    }
    let mut used = BTreeSet::new();
    each(&asyncapi["operations"], "", &mut |_, value| {
        let target = value.get("$ref").and_then(Value::as_str).unwrap_or_default();
        used.extend(target.strip_prefix("#/channels/socket/messages/"));
    });
    assert_eq!(used, frames, "the messages of operations");
    for (any, prefixes) in [("client", &["client."][..]), ("server", &["server.", "event."])] {
        let listed = documents.get(&format!("schemas/{any}.json"))["oneOf"].as_array().unwrap();
        let listed: BTreeSet<_> = listed.iter().map(|one| one["$ref"].as_str().unwrap()).collect();
        let of_kind = frames.iter().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let files: Vec<String> = of_kind.map(|name| format!("{name}.json")).collect();
        assert_eq!(listed, files.iter().map(String::as_str).collect(), "oneOf of schemas/{any}.json");
    }
}

#[test]
fn close_codes_are_those_of_the_protocol_page() {
    let page = source("docs/protocol.md");
    let table = page.split("\n## Close codes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let code = |line: &str| line.strip_prefix("| ")?.split(' ').next()?.parse::<i64>().ok();
    let documented: Vec<i64> = table.lines().filter_map(code).collect();
    let listed = &api().documents().get("asyncapi.yaml")["channels"]["socket"]["x-close-codes"];
    let listed: Vec<i64> =
        listed.as_array().unwrap().iter().map(|one| one["code"].as_i64().unwrap()).collect();
    assert!(documented.len() > 10);
    assert_eq!(listed, documented);
}

#[test]
fn event_types_are_those_of_the_protocol_page() {
    let page = source("docs/protocol.md");
    let table = page.split("\n## cmd 7: event\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let documented: BTreeSet<String> = rows
        .flat_map(|(types, _)| {
            types.split(", ").map(|one| one.trim_matches('`').to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let schemas = api().documents().schemas().filter_map(|(name, _)| name.strip_prefix("event."));
    assert_eq!(schemas.map(str::to_owned).collect::<BTreeSet<_>>(), documented);
}

#[test]
fn faults_are_found() {
    let conforms = |frame: Value| api().check_server_frame(&frame).is_ok();
    let ack = |seq: Value| serde_json::json!({"cmd": 4, "code": 0, "conversation_id": "group_1", "seq": seq});
    assert!(conforms(ack(7.into())) && conforms(ack(7.0.into())));
    assert!(!conforms(ack("7".into())) && !conforms(ack((-1).into())) && !conforms(ack(Value::Null)));
    let mut more = ack(7.into());
    more["other"] = 1.into();
    assert!(!conforms(more), "a field that no schema has");
    assert!(!conforms(serde_json::json!({"cmd": 7, "code": 0, "payload": {"type": "renamed"}})));
    assert!(!conforms(serde_json::json!({"cmd": 2, "code": 503, "payload": "no time is given"})));
    assert!(!conforms(serde_json::json!({"cmd": 2, "code": 418, "payload": "x"})));

    let exchange = |method, path, status, body| spec::Exchange {
        method,
        path,
        request: None,
        status,
        content_type: Some("application/json"),
        body,
    };
    for (exchange, is_right) in [
        (exchange("GET", "/api/groups/group_1/members?limit=5", 200, r#"{"members":[]}"#), true),
        (exchange("GET", "/api/groups/group_1/members?limit=0", 200, r#"{"members":[]}"#), false),
        (exchange("GET", "/api/groups/room/members", 200, r#"{"members":[]}"#), false),
        (exchange("GET", "/api/groups/group_1/members", 200, r#"{"members":[],"more":1}"#), false),
        (exchange("GET", "/api/groups/group_1/members", 418, r#"{"code":418,"message":"x"}"#), false),
        (exchange("GET", "/api/groups/group_1/members", 429, r#"{"code":429,"message":"x"}"#), false),
        (exchange("GET", "/api/nothing", 404, r#"{"code":404,"message":"x"}"#), true),
        (exchange("GET", "/api/nothing", 200, "{}"), false),
        (exchange("GET", "/api/conversations/-/positions?to=bob", 200, r#"{"positions":[]}"#), true),
        (exchange("GET", "/api/conversations/-/positions?to=bob", 200, r#"{"positions":[{}]}"#), false),
    ] {
        let checked = api().check_exchange(&exchange);
        assert_eq!(checked.is_ok(), is_right, "{exchange:?}: {checked:?}");
    }
}
