//! The specifications in `docs/api`, served by a real gateway, and compared with what it answers.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod fuzz;

use std::collections::BTreeMap;

use reqwest::{Client, Method, Response};
use spec::api;
use testbed::stack::{Builder, System};

/// One gateway without rate limits.
fn one_gateway() -> Builder {
    Builder::new().gateways(1).workers(1).unlimited()
}

async fn call(system: &System, method: Method, path: &str, fields: &[(&str, &str)]) -> Response {
    let mut request = Client::new().request(method, format!("{}{path}", system.http_urls()[0]));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_specifications_are_served_to_everyone_and_can_be_cached() {
    let system = one_gateway().set("IM__AUTH__MODE", "jwt").for_test().await.unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api");
    let mut served = 0;
    for (name, _) in api().documents().iter() {
        let path = format!("/api/{name}");
        // No one logs in, and a bad token does not matter.
        let answer = call(&system, Method::GET, &path, &[("authorization", "Bearer nonsense")]).await;
        assert_eq!(answer.status(), 200, "{path}");
        let expected = if name.ends_with(".yaml") { "application/yaml" } else { "application/schema+json" };
        assert_eq!(answer.headers()["content-type"], expected, "{path}");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=300", "{path}");
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        let text = answer.text().await.unwrap();
        assert_eq!(text, std::fs::read_to_string(format!("{folder}/{name}")).unwrap(), "{path}");

        let again = call(&system, Method::GET, &path, &[("if-none-match", &format!("\"x\", {tag}"))]).await;
        assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &tag.parse().unwrap()));
        assert!(again.text().await.unwrap().is_empty());
        let changed = call(&system, Method::GET, &path, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(changed.status(), 200);
        let head = call(&system, Method::HEAD, &path, &[]).await;
        let length = head.headers()["content-length"].to_str().unwrap();
        assert_eq!((head.status().as_u16(), length), (200, text.len().to_string().as_str()));
        served += 1;
    }
    assert!(served > 20, "{served}");
    let page = call(&system, Method::GET, "/api/openapi.yaml", &[("origin", "https://docs.example")]).await;
    assert_eq!(page.headers()["access-control-allow-origin"], "https://docs.example");
    for path in ["/api/schemas/nothing.json", "/api/schemas", "/api/openapi.json"] {
        assert_eq!(call(&system, Method::GET, path, &[]).await.status(), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_names_the_specified_methods_of_each_path() {
    let system = one_gateway().for_test().await.unwrap();
    let mut methods: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for operation in api().operations() {
        methods.entry(&operation.path).or_default().push(&operation.method);
    }
    for (path, mut methods) in methods {
        // The upgrade has its own rules, and no `OPTIONS`.
        if path == "/ws" {
            continue;
        }
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        let path = path.replace("{conversation_id}", "group_1").replace("{user_id}", "bob");
        let path = path.replace("{name}", "types.json");
        let fields = [("x-api-key", system.operator_key()), ("x-user-id", "alice")];
        let answer = call(&system, Method::OPTIONS, &path, &fields).await;
        assert_eq!(answer.status(), 204, "{path}");
        let allow = answer.headers()["allow"].to_str().unwrap();
        let mut allowed: Vec<&str> = allow.split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(allowed, methods, "{path}");
    }
}
