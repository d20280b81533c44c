//! What users and groups show of themselves, over two gateways on real stores.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use serde_json::{Value, json};
use testbed::client::{Caller, Client, Http};
use testbed::stack::{Builder, System};

const META: &str = "{\"b\" : 1.50, \"a\": [12345678901234567890123, 1e2],\"\u{e9}\":\"\\ud83d\\ude00\"}";

async fn system() -> System {
    let builder = Builder::new().workers(1).unlimited().set("IM__GROUPS__AUTO_CREATE", "false");
    builder.set("IM__AUTH__ACCOUNTS", "true").for_test().await.unwrap()
}

fn operator(system: &System, gateway: usize, user: Option<&str>) -> Http {
    let caller =
        Caller::Operator { key: system.operator_key().to_owned(), user: user.map(ToOwned::to_owned) };
    Http::new(&system.http_urls()[gateway], caller)
}

/// The status and the body of a call of `user`, both bodies as text.
async fn text(
    system: &System,
    gateway: usize,
    (method, path): (&str, &str),
    user: &str,
    body: &str,
) -> (u16, String) {
    let joint = if path.contains('?') { '&' } else { '?' };
    let url = format!("{}{path}{joint}user_id={user}", system.http_urls()[gateway]);
    let request = reqwest::Client::new().request(method.parse().unwrap(), url).body(body.to_owned());
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The profiles of `users`, as `asker` sees them.
async fn profiles(system: &System, gateway: usize, asker: &str, users: &str) -> Vec<Value> {
    let path = format!("/api/users?user_ids={users}");
    let found = system.http(gateway, asker).ok("GET", &path, None).await.unwrap();
    found["users"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_profile_is_seen_at_once_on_every_gateway_by_everyone() {
    let system = system().await;
    let ann = system.http(0, "ann");
    let unset = ann.ok("GET", "/api/users/me", None).await.unwrap();
    let expected = json!({"user_id": "ann", "nickname": "ann", "avatar": null, "meta": {}, "updated_at": 0});
    assert_eq!(unset, expected);
    assert_eq!(
        profiles(&system, 1, "bob", "ann").await,
        [Value::Null; 0],
        "it has neither profile nor account"
    );
    // Whoever has blocked whom.
    ann.ok("POST", "/api/blocks", Some(json!({"user_id": "bob"}))).await.unwrap();
    let mut newest = 0;
    for n in 0..8 {
        let (here, there) = (n % 2, (n + 1) % 2);
        let change = match n % 3 {
            0 => json!({"nickname": format!("Ann {n}")}),
            1 => json!({"meta": {"n": n}, "nickname": null}),
            _ => json!({"meta": {"n": n}, "nickname": format!("Ann {n}"), "avatar": null}),
        };
        let answer =
            system.http(here, "ann").ok("PATCH", "/api/users/me", Some(change.clone())).await.unwrap();
        for field in ["nickname", "meta"].into_iter().filter(|field| !change[*field].is_null()) {
            assert_eq!(answer[field], change[field], "{answer}");
        }
        let updated_at = answer["updated_at"].as_i64().unwrap();
        assert!(updated_at > newest, "{updated_at} after {newest}");
        newest = updated_at;
        let found = profiles(&system, there, "bob", "nobody,ann,bob").await;
        assert_eq!(found, std::slice::from_ref(&answer));
        assert_eq!(system.http(there, "ann").ok("GET", "/api/users/me", None).await.unwrap(), answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_a_profile_until_it_has_one_and_the_operator_sets_those_of_others() {
    let system = system().await;
    let nobody = Http::of_nobody(&system.http_urls()[0]);
    for (user, nickname) in [("ann", json!("Ann")), ("eve", Value::Null)] {
        let account = json!({"user_id": user, "password": "correct horse", "nickname": nickname});
        nobody.ok("POST", "/api/register", Some(account)).await.unwrap();
    }
    let bidi = json!({"user_id": "x", "password": "correct horse", "nickname": "a\u{202e}b"});
    assert_eq!(nobody.refused("POST", "/api/register", Some(bidi)).await.unwrap(), 400);
    let found = profiles(&system, 1, "bob", "eve,ann").await;
    let shown = |profile: &Value| (profile["user_id"].clone(), profile["nickname"].clone());
    let both: Vec<_> = found.iter().map(shown).collect();
    assert_eq!(both, [(json!("ann"), json!("Ann")), (json!("eve"), json!("eve"))]);
    assert!(found[0]["updated_at"].as_i64().unwrap() > 0);
    // The account's nickname stays if another field is changed.
    let change = Some(json!({"meta": {"a": 1}}));
    let changed = system.http(1, "ann").ok("PATCH", "/api/users/me", change).await.unwrap();
    assert_eq!((&changed["nickname"], &changed["meta"]), (&json!("Ann"), &json!({"a": 1})));

    let path = "/api/admin/users/guest";
    assert_eq!(system.http(0, "ann").refused("PUT", path, Some(json!({}))).await.unwrap(), 403);
    let all = json!({"nickname": "Guest", "meta": {"b": 2}});
    operator(&system, 0, None).ok("PUT", path, Some(all)).await.unwrap();
    assert_eq!(profiles(&system, 1, "bob", "guest").await[0]["meta"], json!({"b": 2}));
    // The whole profile: what is absent is unset.
    operator(&system, 1, None).ok("PUT", path, Some(json!({"meta": {"c": 3}}))).await.unwrap();
    let guest = &profiles(&system, 0, "bob", "guest").await[0];
    assert_eq!((&guest["nickname"], &guest["meta"]), (&json!("guest"), &json!({"c": 3})));
    // In the name of the user: only what is named.
    let change = Some(json!({"nickname": "Guest 2"}));
    operator(&system, 1, Some("guest")).ok("PATCH", "/api/users/me", change).await.unwrap();
    let guest = &profiles(&system, 0, "bob", "guest").await[0];
    assert_eq!((&guest["nickname"], &guest["meta"]), (&json!("Guest 2"), &json!({"c": 3})));
}

#[tokio::test(flavor = "multi_thread")]
async fn meta_is_delivered_as_the_text_that_was_sent() {
    let system = system().await;
    let body = format!("{{\"meta\": {META} , \"nickname\":\"Ann\"}}");
    let (status, answer) = text(&system, 0, ("PATCH", "/api/users/me"), "ann", &body).await;
    assert!(status == 200 && answer.contains(&format!("\"meta\":{META},")), "{status} {answer}");
    let (_, listed) = text(&system, 1, ("GET", "/api/users?user_ids=ann"), "bob", "").await;
    assert!(listed.contains(&format!("\"meta\":{META},")), "{listed}");

    let new = json!({"conversation_id": "group_team", "members": ["bob"]});
    system.http(0, "ann").ok("POST", "/api/groups", Some(new)).await.unwrap();
    let body = format!("{{\"meta\":\n{META}}}");
    let (status, answer) = text(&system, 0, ("PATCH", "/api/groups/group_team"), "ann", &body).await;
    assert_eq!(status, 200, "{answer}");
    let (_, shown) = text(&system, 1, ("GET", "/api/groups/group_team"), "bob", "").await;
    assert!(shown.contains(&format!("\"meta\":{META},")), "{shown}");
    // It has the largest size, in the largest answer.
    let largest = format!("{{\"a\":\"{}\"}}", "é".repeat(1_020));
    assert_eq!(largest.len(), 2_048);
    let mut users = Vec::new();
    for n in 0..100 {
        let profile = json!({"nickname": "\"".repeat(64), "meta": {"a": "é".repeat(1_020)}});
        let user = format!("{}{n:03}", "u".repeat(61));
        operator(&system, n % 2, None)
            .ok("PUT", &format!("/api/admin/users/{user}"), Some(profile))
            .await
            .unwrap();
        users.push(user);
    }
    let all = system.http(1, "bob").ok("POST", "/api/users", Some(json!({"user_ids": users}))).await.unwrap();
    assert_eq!(all["users"].as_array().unwrap().len(), 100);
    assert_eq!(all["users"][99]["meta"].to_string(), largest);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_fields_are_refused_and_nothing_is_changed() {
    let system = system().await;
    let ann = system.http(0, "ann");
    let before = ann.ok("PATCH", "/api/users/me", Some(json!({"nickname": "Ann", "meta": {"a": 1}}))).await;
    let before = before.unwrap();
    ann.ok("POST", "/api/groups", Some(json!({"conversation_id": "group_team"}))).await.unwrap();
    let long = "x".repeat(2_048);
    for (path, body, status, why) in [
        ("users/me", "{}".to_owned(), 400, "nothing to change"),
        ("users/me", r#"{"nickname":null,"meta":null}"#.to_owned(), 400, "nothing to change"),
        ("users/me", r#"{"nickname":"\u202e"}"#.to_owned(), 400, "nickname contains U+202E"),
        ("users/me", r#"{"nickname":"\u200b "}"#.to_owned(), 400, "nickname is blank"),
        ("users/me", format!(r#"{{"nickname":"{}"}}"#, "é".repeat(65)), 400, "nickname is longer than 64"),
        ("users/me", r#"{"nickname":"B","avatar":"file"}"#.to_owned(), 400, "avatar: file_id must be"),
        ("users/me", r#"{"nickname":"B","meta":[]}"#.to_owned(), 400, "meta must be a JSON object"),
        ("users/me", r#"{"nickname":"B","meta":{"a":1,"a":2}}"#.to_owned(), 400, "there twice"),
        ("users/me", format!(r#"{{"nickname":"B","meta":{{"a":"{long}"}}}}"#), 413, "meta has 2056 bytes"),
        ("groups/group_team", "{}".to_owned(), 400, "nothing to change"),
        ("groups/group_team", r#"{"name":"B","avatar":{}}"#.to_owned(), 400, "avatar: "),
        ("groups/group_team", r#"{"name":"B","meta":"{}"}"#.to_owned(), 400, "meta must be a JSON object"),
        ("groups/group_team", format!(r#"{{"meta":{{"a":"{long}"}}}}"#), 413, "meta has 2056 bytes"),
        (
            "groups/group_team",
            format!(r#"{{"name":"B","notice":"{}x"}}"#, "é".repeat(512)),
            413,
            "notice has 1025 bytes",
        ),
    ] {
        let (got, answer) = text(&system, 1, ("PATCH", &format!("/api/{path}")), "ann", &body).await;
        assert!(got == status && answer.contains(why), "{path} {body}: {got} {answer}");
    }
    assert_eq!(ann.ok("GET", "/api/users/me", None).await.unwrap(), before);
    let group = ann.ok("GET", "/api/groups/group_team", None).await.unwrap();
    assert_eq!((&group["name"], &group["notice"], &group["meta"]), (&json!(""), &json!(""), &json!({})));
    for (path, status) in [
        ("/api/users".to_owned(), 400),
        (
            format!(
                "/api/users?user_ids={}",
                (0..101).map(|n| format!("u{n}")).collect::<Vec<_>>().join(",")
            ),
            400,
        ),
        ("/api/users?user_ids=a%20b".to_owned(), 400),
        ("/api/users/ann".to_owned(), 404),
    ] {
        assert_eq!(ann.refused("GET", &path, None).await.unwrap(), status, "{path}");
    }
    let nobody = Http::of_nobody(&system.http_urls()[1]);
    for path in ["/api/users?user_ids=ann", "/api/users/me"] {
        assert_eq!(nobody.refused("GET", path, None).await.unwrap(), 401, "{path}");
    }
    let asked = Some(json!({"user_ids": ["ann", "a,b", "ann"]}));
    let found = system.http(1, "bob").ok("POST", "/api/users", asked).await.unwrap();
    assert_eq!(found["users"], json!([before]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_shows_is_changed_by_admins_and_told_to_its_members() {
    let system = system().await;
    let ann = system.http(0, "ann");
    let new = json!({"conversation_id": "group_team", "name": "Team", "members": ["bob"]});
    ann.ok("POST", "/api/groups", Some(new)).await.unwrap();
    let mut bob = Client::open(&format!("{}?user_id=bob", system.ws_urls()[1])).await.unwrap();
    bob.request(0, r#"{"cmd":0}"#).await.unwrap();
    let path = "/api/groups/group_team";
    let notice = "Line 1\n\tLine 2";
    assert_eq!(
        system.http(1, "bob").refused("PATCH", path, Some(json!({"notice": "x"}))).await.unwrap(),
        403
    );
    assert_eq!(system.http(1, "eve").refused("PATCH", path, Some(json!({"meta": {}}))).await.unwrap(), 403);
    ann.ok("PATCH", path, Some(json!({"notice": notice, "meta": {"a": 1}, "avatar": null}))).await.unwrap();
    let told = bob.wait_for(|packet| packet.event() == Some("group_updated")).await.unwrap();
    assert_eq!(told.conversation_id.as_deref(), Some("group_team"));
    let shown = system.http(1, "bob").ok("GET", path, None).await.unwrap();
    let of = |group: &Value| ["name", "notice", "avatar", "meta"].map(|field| group[field].clone());
    assert_eq!(of(&shown), [json!("Team"), json!(notice), Value::Null, json!({"a": 1})]);
    assert!(shown.as_object().unwrap().contains_key("avatar"));
    ann.ok("PATCH", path, Some(json!({"notice": "", "name": "New"}))).await.unwrap();
    let shown = system.http(1, "bob").ok("GET", path, None).await.unwrap();
    assert_eq!(of(&shown), [json!("New"), json!(""), Value::Null, json!({"a": 1})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_limited_and_a_feature_that_is_switched_off_says_so() {
    let builder = Builder::new().gateways(1).workers(1).unlimited();
    let limited = builder.set("IM__PROFILES__CHANGES_PER_MINUTE", 3).for_test().await.unwrap();
    let ann = limited.http(0, "ann");
    let change = |n: usize| json!({"nickname": format!("Ann {n}")});
    for n in 0..3 {
        ann.ok("PATCH", "/api/users/me", Some(change(n))).await.unwrap();
    }
    let (status, answer) = ann.call("PATCH", "/api/users/me", Some(&change(3))).await.unwrap();
    assert!(status == 429 && answer["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 20_001), "{answer}");
    assert_eq!(ann.ok("GET", "/api/users/me", None).await.unwrap()["nickname"], "Ann 2");
    limited.http(0, "bob").ok("PATCH", "/api/users/me", Some(change(4))).await.unwrap();
    operator(&limited, 0, Some("ann")).ok("PATCH", "/api/users/me", Some(change(5))).await.unwrap();

    let builder = Builder::new().gateways(1).workers(1).unlimited().set("IM__PROFILES__ENABLED", "false");
    let builder = builder.set("IM__MESSAGES__META", "false");
    let off = builder.for_test().await.unwrap();
    let (nobody, ann) = (Http::of_nobody(&off.http_urls()[0]), off.http(0, "ann"));
    let api = nobody.ok("GET", "/api", None).await.unwrap();
    let features = api["features"].as_array().unwrap();
    assert!(!features.is_empty(), "others are on");
    assert!(!features.iter().any(|one| one == "profiles" || one == "meta"), "{features:?}");
    let limits = json!({
        "content_bytes": 4096, "mentions": 50, "file_bytes": 104_857_600, "attachments": 10, "frame_bytes": 65536,
        "heartbeat_ms": 30000,
    });
    assert_eq!(api["limits"], limits);
    ann.ok("POST", "/api/groups", Some(json!({"conversation_id": "group_team"}))).await.unwrap();
    let nothing = json!({});
    for (caller, method, path, body) in [
        (&ann, "GET", "/api/users?user_ids=ann", None),
        (&ann, "GET", "/api/users/me", None),
        (&ann, "PATCH", "/api/users/me", Some(&nothing)),
        (&operator(&off, 0, None), "PUT", "/api/admin/users/ann", Some(&nothing)),
        (&ann, "PATCH", "/api/groups/group_team", Some(&json!({"name": "Team", "notice": "x"}))),
        (&ann, "PATCH", "/api/groups/group_team", Some(&json!({"avatar": null}))),
    ] {
        let (status, answer) = caller.call(method, path, body).await.unwrap();
        let says_so =
            answer["message"].as_str().is_some_and(|text| text.contains("profiles.enabled = false"));
        assert!(status == 400 && says_so, "{method} {path}: {status} {answer}");
    }
    let group = ann.ok("GET", "/api/groups/group_team", None).await.unwrap();
    assert!(["avatar", "notice", "meta"].iter().all(|field| group.get(field).is_none()), "{group}");
    assert_eq!(group["name"], "");
}
