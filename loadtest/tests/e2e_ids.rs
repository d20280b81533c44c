//! Ids: every id that is accepted can be named in every call, and new ids keep a profile.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use futures_util::future::join_all;
use reqwest::Url;
use serde_json::{Value, json};
use testbed::client::{Caller, Client, Http};
use testbed::stack::{Builder, System};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Ids that the protocol allows and that mean something else to some part of an address, a list or a reader.
const STRANGE: [&str; 34] = [
    ".",
    "..",
    "...",
    "-",
    "_",
    "~",
    "~.",
    "~..",
    "*",
    "me",
    "members",
    "users",
    "revoke",
    "a,b",
    "a/b",
    "/",
    "//",
    "a/../b",
    "a\\b",
    "a%b",
    "%2e%2e",
    "%2F",
    "a?b",
    "a#b",
    "a+b",
    "a&user=c",
    "a;b",
    "a=b",
    "\"'<>|^`",
    "@a:b!$()",
    "王芳",
    "e\u{301}",
    "\u{200b}a",
    "\u{202e}\u{feff}",
];

/// How an id is written in an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In the path, percent-encoded.
    InPath,
    /// In the query string.
    InQuery,
}

/// An address with `{group}` and `{user}` in its path filled in.
fn address(template: &str, group: &str, user: &str, form: Form) -> String {
    let mut url = Url::parse("http://any").unwrap();
    let (path, query) = template.split_once('?').unwrap_or((template, ""));
    let mut parameters = Vec::new();
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        let (id, parameter) = match segment {
            "{group}" => (group, "conversation_id"),
            "{user}" => (user, "user"),
            literal => {
                segments.push(literal);
                continue;
            }
        };
        match form {
            Form::InPath => segments.push(id),
            Form::InQuery => {
                segments.push("-");
                parameters.push((parameter, id));
            }
        }
    }
    url.path_segments_mut().unwrap().extend(segments);
    url.set_query(Some(query).filter(|query| !query.is_empty()));
    if !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(parameters);
    }
    url.as_str().strip_prefix("http://any").unwrap().to_owned()
}

/// The path as a proxy sends it on that decodes it, merges slashes and folds dots, as several do by default.
fn normalized(address: &str) -> String {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let mut decoded = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap();
        decoded.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap() } else { byte });
    }
    let decoded = String::from_utf8(decoded).unwrap();
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut url = Url::parse("http://any").unwrap();
    url.path_segments_mut().unwrap().extend(segments);
    url.set_query(Some(query).filter(|query| !query.is_empty()));
    url.as_str().strip_prefix("http://any").unwrap().to_owned()
}

/// One user's calls about one group and one other user, in one form.
struct Calls<'a> {
    http: Http,
    group: &'a str,
    user: &'a str,
    form: Form,
}

impl Calls<'_> {
    async fn ok(&self, method: &str, template: &str, body: Option<Value>) -> Value {
        let address = address(template, self.group, self.user, self.form);
        if self.form == Form::InQuery {
            assert_eq!(normalized(&address), address, "a proxy may change it");
        }
        let answer = self.http.ok(method, &address, body).await;
        answer.unwrap_or_else(|error| panic!("{:?}: {error:#}", self.user))
    }

    async fn members(&self) -> Vec<Value> {
        let listed = self.ok("GET", "/api/groups/{group}/members?limit=500", None).await;
        listed["members"].as_array().unwrap().clone()
    }

    fn is_member(&self, members: &[Value]) -> bool {
        members.iter().any(|member| member["user_id"] == self.user)
    }

    /// Everything that alice can do about a group and a member.
    async fn manage(&self) {
        let (group, user) = (self.group, self.user);
        self.ok("POST", "/api/groups", Some(json!({"conversation_id": group, "members": [user]}))).await;
        assert_eq!(self.ok("GET", "/api/groups/{group}", None).await["conversation_id"], group);
        self.ok("PATCH", "/api/groups/{group}", Some(json!({"name": "Strange"}))).await;
        assert!(self.is_member(&self.members().await));
        let member = "/api/groups/{group}/members/{user}";
        self.ok("PATCH", member, Some(json!({"role": "admin"}))).await;
        self.ok("PATCH", member, Some(json!({"muted_until": 4_000_000_000_000_i64}))).await;
        let members = self.members().await;
        let found = members.iter().find(|member| member["user_id"] == user).unwrap();
        assert_eq!((&found["role"], &found["muted_until"]), (&json!("admin"), &json!(4_000_000_000_000_i64)));
        for read in ["messages?limit=5", "positions"] {
            self.ok("GET", &format!("/api/conversations/{{group}}/{read}"), None).await;
        }
        for presence in [
            self.http.ok("GET", &with("/api/presence", &[("user", user), ("user", "nobody")]), None).await,
            self.http.ok("POST", "/api/presence", Some(json!({"user_ids": [user, "nobody"]}))).await,
        ] {
            assert_eq!(presence.unwrap()["users"], json!([{"user_id": user, "online": false}]));
        }
        self.ok("DELETE", member, None).await;
        assert!(!self.is_member(&self.members().await), "{user:?} is removed");
        self.ok("POST", "/api/groups/{group}/members", Some(json!({"user_ids": [user]}))).await;
        assert!(self.is_member(&self.members().await));
    }

    /// Blocks the user, and unblocks it.
    async fn block(&self) {
        self.ok("POST", "/api/blocks", Some(json!({"user_id": self.user}))).await;
        assert_eq!(self.ok("GET", "/api/blocks", None).await["user_ids"], json!([self.user]));
        self.ok("DELETE", "/api/blocks/{user}", None).await;
        assert_eq!(self.ok("GET", "/api/blocks", None).await["user_ids"], json!([]));
    }
}

/// An address with parameters.
fn with(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut url = Url::parse(&format!("http://any{path}")).unwrap();
    url.query_pairs_mut().extend_pairs(parameters);
    url.as_str().strip_prefix("http://any").unwrap().to_owned()
}

async fn open_system() -> System {
    Builder::new()
        .unlimited()
        .workers(1)
        .set("IM__AUTH__ACCOUNTS", "true")
        .set("IM__AUTH__ID_PROFILE", "any")
        .set("IM__GROUPS__ID_PROFILE", "any")
        .set("IM__GROUPS__AUTO_CREATE", "false")
        .for_test()
        .await
        .unwrap()
}

/// Each id with each call, in the path (unless a client folds it away) and in the query string, by a client that folds
/// paths as browsers do.
#[tokio::test(flavor = "multi_thread")]
async fn every_id_can_be_named_in_every_call() {
    let system = open_system().await;
    let base = &system.http_urls()[0];
    for (n, user) in STRANGE.into_iter().enumerate() {
        let group = format!("group_{user}");
        let caller = Http::of_user(base, user);
        for form in [Form::InPath, Form::InQuery] {
            if form == Form::InPath && matches!(user, "." | "..") {
                continue;
            }
            // A dismissed group keeps its id.
            let group = if form == Form::InPath { group.clone() } else { format!("{group}{n}") };
            let as_alice = Calls { http: Http::of_user(base, "alice"), group: &group, user, form };
            as_alice.manage().await;
            as_alice.block().await;

            // The user's own calls: an invitation is declined, another one accepted.
            let as_user = Calls { http: caller.clone(), group: &group, user, form };
            as_user.ok("PATCH", "/api/settings", Some(json!({"group_adds": "nobody"}))).await;
            for answer in ["DELETE", "POST"] {
                as_alice.ok("DELETE", "/api/groups/{group}/members/{user}", None).await;
                let added = json!({"user_ids": [user]});
                let added = as_alice.ok("POST", "/api/groups/{group}/members", Some(added)).await;
                assert_eq!(added["invited"], json!([user]));
                as_user.ok(answer, "/api/invitations/{group}", None).await;
                if answer == "DELETE" {
                    let back = json!({"user_ids": [user]});
                    as_alice.ok("POST", "/api/groups/{group}/members", Some(back)).await;
                    as_user.ok("POST", "/api/invitations/{group}", None).await;
                }
            }
            as_user.ok("PATCH", "/api/settings", Some(json!({"group_adds": "everyone"}))).await;
            as_user.ok("GET", "/api/groups/{group}", None).await;

            // The private chat, by its name and by the other user.
            let name = name_of_chat("alice", user);
            let chat = Calls { http: Http::of_user(base, "alice"), group: &name, user, form };
            let page = chat.ok("GET", "/api/conversations/{group}/messages", None).await;
            assert_eq!((&page["conversation_id"], &page["peer"]), (&json!(name), &json!(user)));

            let operator = Http::of_operator(base, system.operator_key());
            let as_operator = Calls { http: operator, group: &group, user, form };
            as_operator.ok("PUT", "/api/admin/users/{user}", Some(json!({"nickname": "Someone"}))).await;
            as_operator.ok("POST", "/api/admin/users/{user}/revoke", None).await;
            as_operator.ok("DELETE", "/api/groups/{group}", None).await;
        }
        let profiles =
            Http::of_user(base, "alice").ok("GET", &with("/api/users", &[("user", user)]), None).await;
        assert_eq!(profiles.unwrap()["users"][0]["user_id"], user);
        let by_peer = with("/api/conversations/-/messages", &[("to", user)]);
        assert_eq!(Http::of_user(base, "alice").ok("GET", &by_peer, None).await.unwrap()["peer"], user);
    }
}

fn name_of_chat(one: &str, other: &str) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    format!("private_{first}_{second}")
}

/// Users are named by tokens, headers and parameters, too.
#[tokio::test(flavor = "multi_thread")]
async fn every_id_can_call_and_have_an_account() {
    let system = open_system().await;
    let base = &system.http_urls()[0];
    let key = system.operator_key();
    for user in STRANGE {
        // The operator registers without the limits of logins.
        let operator = Http::of_operator(base, key);
        let account = json!({"user_id": user, "password": "correct horse"});
        operator.ok("POST", "/api/register", Some(account.clone())).await.unwrap();
        let login = operator.ok("POST", "/api/login", Some(account)).await.unwrap();
        let minted = operator.ok("POST", "/api/admin/tokens", Some(json!({"user_id": user}))).await.unwrap();
        let blocked = format!("enemy-of-{user}");
        let for_user = Http::new(base, Caller::Operator { key: key.to_owned(), user: Some(user.to_owned()) });
        for_user.ok("POST", "/api/blocks", Some(json!({"user_id": blocked}))).await.unwrap();
        let token = |answer: &Value| Caller::Token(answer["token"].as_str().unwrap().to_owned());
        for (http, path) in [
            (for_user, "/api/blocks".to_owned()),
            (operator, with("/api/blocks", &[("user_id", user)])),
            (Http::new(base, token(&login)), "/api/blocks".to_owned()),
            (Http::new(base, token(&minted)), "/api/blocks".to_owned()),
            (Http::of_user(base, user), "/api/blocks".to_owned()),
        ] {
            let blocks = http.ok("GET", &path, None).await.unwrap();
            assert_eq!(blocks["user_ids"], json!([blocked]), "{user:?}");
        }
    }
}

/// Sends a request as it is written, and returns the status.
async fn raw(base: &str, line: &str, headers: &str) -> u16 {
    let host = base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A client that folds the path of a call reaches no other call, and one that does not reaches the user.
#[tokio::test(flavor = "multi_thread")]
async fn a_folded_path_does_nothing() {
    let system = open_system().await;
    let base = &system.http_urls()[0];
    let alice = Http::of_user(base, "alice");
    let made = json!({"conversation_id": "group_x", "members": [".", ".."]});
    alice.ok("POST", "/api/groups", Some(made)).await.unwrap();
    for user in [".", "..", "%2e", "%2E%2e", ".%2e"] {
        for call in ["/api/groups/group_x/members/", "/api/blocks/"] {
            assert_eq!(alice.refused("DELETE", &format!("{call}{user}"), None).await.unwrap(), 404, "{user}");
        }
        let operator = Http::of_operator(base, system.operator_key());
        let revoke = format!("/api/admin/users/{user}/revoke");
        // "revoke" becomes the user, who can only be set.
        assert!(matches!(operator.refused("POST", &revoke, None).await.unwrap(), 404 | 405));
    }
    let members = async || {
        let shown = alice.ok("GET", "/api/groups/group_x", None).await.unwrap();
        shown["members"].as_u64().unwrap()
    };
    assert_eq!(members().await, 3);
    for (user, left) in [(".", 2), ("%2E%2E", 1)] {
        let line = format!("DELETE /api/groups/group_x/members/{user}?user_id=alice");
        assert_eq!((raw(base, &line, "").await, members().await), (200, left));
    }
    // The caller is no one else because a call names somebody.
    let both = "/api/groups/-/members/-?conversation_id=group_x&user=alice";
    assert_eq!(Http::of_user(base, "eve").refused("DELETE", both, None).await.unwrap(), 403);
}

fn registration(user: &str) -> Option<Value> {
    Some(json!({"user_id": user, "password": "correct horse"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn new_ids_keep_the_profile_and_existing_ones_go_on() {
    let mut system = Builder::new()
        .unlimited()
        .workers(1)
        .set("IM__AUTH__ACCOUNTS", "true")
        .set("IM__GROUPS__AUTO_CREATE", "true")
        .for_test()
        .await
        .unwrap();
    let gateway = system.gateway(0);
    gateway.set("IM__AUTH__ID_PROFILE", "any");
    gateway.set("IM__GROUPS__ID_PROFILE", "any");
    gateway.terminate().await;
    gateway.start_again().await.unwrap();
    let urls = system.http_urls();
    let key = system.operator_key();
    let (any, safe) = (Http::of_operator(&urls[0], key), Http::of_operator(&urls[1], key));
    let alice = Http::of_user(&urls[1], "alice");
    let refused = async |http: &Http, path: &str, body: Option<Value>| {
        let (status, answer) = http.call("POST", path, body.as_ref()).await.unwrap();
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };

    for id in STRANGE.into_iter().chain(["\u{430}lice", "al\u{ad}ice", "e\u{301}lan"]) {
        if id == "me" || id == "members" || id == "users" || id == "revoke" || id == "王芳" || id == "a+b" {
            continue;
        }
        let (status, why) = refused(&safe, "/api/register", registration(id)).await;
        assert!(status == 400 && why.starts_with("user_id "), "{id:?}: {status} {why}");
        let group = format!("group_{id}");
        let (status, why) = refused(&alice, "/api/groups", Some(json!({"conversation_id": group}))).await;
        assert!(status == 400 && why.starts_with("conversation_id "), "{id:?}: {status} {why}");
        // Nor does a group come into being by use.
        let used = address("/api/conversations/{group}/messages", &group, "", Form::InQuery);
        let (status, answer) = alice.call("GET", &used, None).await.unwrap();
        assert!(
            status == 400 && answer["message"].as_str().unwrap().starts_with("conversation_id "),
            "{answer}"
        );
    }
    let (_, why) = refused(&safe, "/api/register", registration("e\u{301}lan")).await;
    assert!(why.contains("send \"élan\""), "{why}");
    for id in ["élan", "王芳", "ann@example.com"] {
        safe.ok("POST", "/api/register", registration(id)).await.unwrap();
    }

    // Accounts and groups that exist already, whatever their ids.
    for id in ["..", "paypal", "paypaI", "zoe"] {
        any.ok("POST", "/api/register", registration(id)).await.unwrap();
    }
    let group = json!({"conversation_id": "group_..", "members": ["bob"]});
    Http::of_user(&urls[0], "alice").ok("POST", "/api/groups", Some(group)).await.unwrap();
    for id in ["..", "paypal", "paypaI"] {
        safe.ok("POST", "/api/login", registration(id)).await.unwrap();
    }
    alice.ok("GET", "/api/groups/group_..", None).await.unwrap();
    let mut dots = Client::open(&format!("{}?user_id=..", system.ws_urls()[1])).await.unwrap();
    assert_eq!(dots.request(0, r#"{"cmd":0}"#).await.unwrap().code, 0);

    // Look-alikes of accounts, also of those that another gateway made without looking.
    for id in ["paypa1", "PayPal", "Zoe", "z\u{3bf}e", "ÉLAN", "ann@example.c0m"] {
        let (status, why) = refused(&safe, "/api/register", registration(id)).await;
        assert!(matches!(status, 400 | 409), "{id}: {status} {why}");
        assert!(status == 400 || why.contains("looks like one that is taken"), "{id}: {why}");
    }
    let (status, why) = refused(&safe, "/api/register", registration("zoe")).await;
    assert!(status == 409 && why.contains("is taken"), "{status} {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_look_alikes_that_register_at_the_same_time_one_gets_its_id() {
    let system =
        Builder::new().unlimited().workers(1).set("IM__AUTH__ACCOUNTS", "true").for_test().await.unwrap();
    for round in 0..3 {
        let ids = ["scope", "SCOPE", "Scope", "sc0pe", "\u{455}\u{441}\u{43e}\u{440}\u{435}", "scope"];
        let ids = ids.map(|id| format!("{id}{round}"));
        let calls = ids.iter().enumerate().map(|(n, id)| {
            let http = Http::of_operator(&system.http_urls()[n % 2], system.operator_key());
            async move { http.call("POST", "/api/register", registration(id).as_ref()).await.unwrap() }
        });
        let answers = join_all(calls).await;
        let made = answers.iter().filter(|(status, _)| *status == 200).count();
        assert!(made == 1 && answers.iter().all(|(status, _)| matches!(status, 200 | 409)), "{answers:?}");
    }
}
