//! FCM's HTTP v1 API and Google's token server: <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hyper::http::request::Parts;
use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, Script};
use super::arrivals::Arrivals;
use super::fcm_account::Account;
use super::server::Server;

const PROJECT: &str = "demo-project";
/// Longest payload: keys and values of `data` and `notification`.
const PAYLOAD_BYTES_MAX: usize = 4_096;
/// Longest `ttl`: 4 weeks.
const TTL_S_MAX: u64 = 2_419_200;
/// Keys of `data` that FCM uses itself.
const RESERVED: [&str; 2] = ["from", "gcm"];

#[derive(Debug)]
struct State {
    url: OnceLock<String>,
    account: Account,
    /// Messages by registration token; `None`: the app was removed.
    devices: Mutex<HashMap<String, Option<Vec<Value>>>>,
    script: Script,
    token_script: Script,
    arrivals: Arrivals,
}

/// The server.
#[derive(Debug)]
pub struct FcmService {
    server: Server,
    state: Arc<State>,
}

impl FcmService {
    /// A server on a free port, with a service account of its own.
    ///
    /// # Errors
    /// The system's.
    pub async fn start() -> anyhow::Result<Self> {
        let state = Arc::new(State {
            url: OnceLock::new(),
            account: Account::generate()?,
            devices: Mutex::default(),
            script: Script::default(),
            token_script: Script::default(),
            arrivals: Arrivals::default(),
        });
        let handled = Arc::clone(&state);
        let server = Server::start(None, Arc::new(move |parts, body| handled.answer(parts, body))).await?;
        state.url.get_or_init(|| server.url());
        Ok(Self { server, state })
    }

    /// Its address: `push.fcm_url`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The content of the file `push.fcm_service_account_file`.
    #[must_use]
    pub fn service_account(&self) -> String {
        self.state.account.file(PROJECT, &self.state.token_uri()).to_string()
    }

    /// The registration token of a new device.
    #[must_use]
    pub fn register(&self) -> String {
        let token = format!("{}:APA91b{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        self.state.devices.lock().insert(token.clone(), Some(Vec::new()));
        token
    }

    /// The app was removed from a device: its token is `UNREGISTERED`.
    pub fn unregister(&self, token: &str) {
        self.state.devices.lock().insert(token.to_owned(), None);
    }

    /// The messages that a device received, without its token.
    #[must_use]
    pub fn received(&self, token: &str) -> Vec<Value> {
        self.state.devices.lock().get(token).cloned().flatten().unwrap_or_default()
    }

    /// Waits until a device has received at least `count` messages.
    pub async fn wait_for(&self, token: &str, count: usize) -> Vec<Value> {
        self.state
            .arrivals
            .until(|| Some(self.received(token)).filter(|received| received.len() >= count))
            .await
    }

    /// How many access tokens were granted.
    #[must_use]
    pub fn tokens_granted(&self) -> u64 {
        self.state.account.granted()
    }

    /// The `expires_in` of access tokens that are granted from now on.
    pub fn expire_tokens_in(&self, seconds: u64) {
        self.state.account.expire_in(seconds);
    }

    /// Revokes all access tokens.
    pub fn revoke_tokens(&self) {
        self.state.account.revoke_all();
    }

    /// Answers the next message in this way; it is not delivered.
    pub fn answer_next(&self, answer: Answer) {
        self.state.script.next(answer);
    }

    /// Answers all messages in this way, until it is given `None`.
    pub fn answer_always(&self, answer: Option<Answer>) {
        self.state.script.always(answer);
    }

    /// Answers the next request for an access token in this way.
    pub fn answer_next_token_request(&self, answer: Answer) {
        self.state.token_script.next(answer);
    }

    /// Closes the port and all connections.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Opens the port again.
    ///
    /// # Errors
    /// The system's.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.server.restart().await
    }

    /// An error as FCM words it: `code` is one of its `ErrorCode`.
    #[must_use]
    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        let details =
            json!([{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]);
        Answer::json(status, &json!({"error": {"code": status, "message": message, "details": details}}))
    }
}

impl State {
    fn token_uri(&self) -> String {
        format!("{}/token", self.url.get().map_or("", String::as_str))
    }

    fn answer(&self, parts: &Parts, body: &Bytes) -> Answer {
        let answer = if parts.uri.path() == "/token" {
            self.token_script.take().unwrap_or_else(|| self.account.grant(body, &self.token_uri()))
        } else {
            self.send(parts, body)
        };
        self.arrivals.record();
        answer
    }

    fn send(&self, parts: &Parts, body: &Bytes) -> Answer {
        if parts.method != "POST" || parts.uri.path() != format!("/v1/projects/{PROJECT}/messages:send") {
            return Answer { body: "<html>Not Found</html>".to_owned(), ..Answer::status(404) };
        }
        let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        if !authorization.is_some_and(|value| self.account.is_valid(value)) {
            let error = json!({"code": 401, "message": "Request had invalid authentication credentials.",
                "status": "UNAUTHENTICATED"});
            return Answer::json(401, &json!({ "error": error }));
        }
        let mut message: Value = match serde_json::from_slice::<Value>(body) {
            Ok(mut body) => body["message"].take(),
            Err(_) => return invalid("", "Invalid JSON payload received."),
        };
        if let Err((field, why)) = check(&message) {
            return invalid(&field, &why);
        }
        if let Some(answer) = self.script.take() {
            return answer;
        }
        let token = message["token"].take();
        if let Some(fields) = message.as_object_mut() {
            fields.remove("token");
        }
        match self.devices.lock().get_mut(token.as_str().unwrap_or_default()) {
            Some(Some(received)) => {
                received.push(message);
                let name = format!("projects/{PROJECT}/messages/0:{}", received.len());
                Answer::json(200, &json!({ "name": name }))
            }
            Some(None) => FcmService::error(404, "UNREGISTERED", "Requested entity was not found."),
            None => {
                let why = "The registration token is not a valid FCM registration token";
                FcmService::error(400, "INVALID_ARGUMENT", why)
            }
        }
    }
}

/// `INVALID_ARGUMENT` with the field that is wrong.
fn invalid(field: &str, why: &str) -> Answer {
    let details = json!([{"@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": field, "description": why}]}]);
    let error = json!({"code": 400, "message": why, "status": "INVALID_ARGUMENT", "details": details});
    Answer::json(400, &json!({ "error": error }))
}

/// Whether a message has the form of `projects.messages`. The error has the field.
fn check(message: &Value) -> Result<(), (String, String)> {
    let wrong = |field: &str, why: &str| Err((field.to_owned(), why.to_owned()));
    let known = |value: &Value, field: &str, names: &[&str]| {
        let unknown =
            value.as_object().into_iter().flatten().find(|(name, _)| !names.contains(&name.as_str()));
        let why =
            |name: &String| format!("Invalid JSON payload received. Unknown name \"{name}\" at '{field}'");
        unknown.map_or(Ok(()), |(name, _)| Err((field.to_owned(), why(name))))
    };
    if !message["token"].is_string() {
        return wrong("message", "Recipient of the message is not set.");
    }
    let android = &message["android"];
    known(message, "message", &["token", "notification", "data", "android"])?;
    known(&message["notification"], "message.notification", &["title", "body", "image"])?;
    known(android, "message.android", &["collapse_key", "priority", "ttl", "notification"])?;
    let shown = ["tag", "notification_count", "notification_priority", "default_sound"];
    known(&android["notification"], "message.android.notification", &shown)?;
    for (key, value) in message["data"].as_object().into_iter().flatten() {
        if RESERVED.contains(&key.as_str()) || key.starts_with("google") {
            return wrong("message.data", &format!("Invalid data payload key: {key}"));
        }
        if !value.is_string() {
            return wrong(&format!("message.data[\"{key}\"].value"), "Invalid value (TYPE_STRING)");
        }
    }
    let ttl_s = android["ttl"].as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse::<u64>().ok());
    if !android["ttl"].is_null() && ttl_s.is_none_or(|ttl_s| ttl_s > TTL_S_MAX) {
        return wrong("message.android.ttl", "Invalid ttl");
    }
    if !android["priority"].is_null() && android["priority"] != "HIGH" && android["priority"] != "NORMAL" {
        return wrong("message.android.priority", "Invalid value (TYPE_ENUM)");
    }
    let texts = |part: &Value| -> usize {
        let fields = part.as_object().into_iter().flatten();
        fields.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
    };
    if texts(&message["data"]) + texts(&message["notification"]) > PAYLOAD_BYTES_MAX {
        return wrong("message", "Android message is too big");
    }
    Ok(())
}
