//! Apple's push service:
//! <https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns>.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Version;
use hyper::http::request::Parts;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, Script};
use super::arrivals::Arrivals;
use super::server::Server;
use super::vapid::unix_s;
use crate::certificates::Authority;

const PAYLOAD_BYTES_MAX: usize = 4_096;
/// A token that is older is expired.
const TOKEN_AGE_S_MAX: u64 = 3_600;

/// A notification, as a device received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApnsPush {
    /// The headers whose names begin with `apns-`.
    pub headers: BTreeMap<String, String>,
    /// The payload.
    pub payload: Value,
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    iat: u64,
}

#[derive(Debug)]
struct State {
    public: Vec<u8>,
    /// Notifications by device token; `None`: the app was removed.
    devices: Mutex<HashMap<String, Option<Vec<ApnsPush>>>>,
    tokens: Mutex<HashSet<String>>,
    expired: Mutex<HashSet<String>>,
    script: Script,
    arrivals: Arrivals,
}

/// The server. It has the key of one team, and serves one app.
#[derive(Debug)]
pub struct ApnsService {
    server: Server,
    state: Arc<State>,
    key: String,
}

impl ApnsService {
    /// `push.apns_key_id`
    pub const KEY_ID: &'static str = "ABC123DEFG";
    /// `push.apns_team_id`
    pub const TEAM_ID: &'static str = "DEF123GHIJ";
    /// `push.apns_topic`
    pub const TOPIC: &'static str = "com.example.app";

    /// A server on a free port: with TLS, or for clients that speak HTTP/2 without it.
    ///
    /// # Errors
    /// The system's.
    pub async fn start(authority: Option<&Authority>) -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let der = STANDARD.encode(pair.to_pkcs8v1()?.as_ref());
        let state = Arc::new(State {
            public: pair.public_key().as_ref().to_vec(),
            devices: Mutex::default(),
            tokens: Mutex::default(),
            expired: Mutex::default(),
            script: Script::default(),
            arrivals: Arrivals::default(),
        });
        let handled = Arc::clone(&state);
        let handler = Arc::new(move |parts: &Parts, body: &Bytes| handled.answer(parts, body));
        let server = Server::start(authority, handler).await?;
        let (first, second) = der.split_at(64.min(der.len()));
        let (second, third) = second.split_at(64.min(second.len()));
        let key =
            format!("-----BEGIN PRIVATE KEY-----\n{first}\n{second}\n{third}\n-----END PRIVATE KEY-----\n");
        Ok(Self { server, state, key })
    }

    /// Its address: `push.apns_url`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The content of the file `push.apns_key_file`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The token of a new device.
    #[must_use]
    pub fn register(&self) -> String {
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        self.state.devices.lock().insert(token.clone(), Some(Vec::new()));
        token
    }

    /// The app was removed from a device: its token is `Unregistered`.
    pub fn unregister(&self, token: &str) {
        self.state.devices.lock().insert(token.to_owned(), None);
    }

    /// The notifications that a device received.
    #[must_use]
    pub fn received(&self, token: &str) -> Vec<ApnsPush> {
        self.state.devices.lock().get(token).cloned().flatten().unwrap_or_default()
    }

    /// Waits until a device has received at least `count` notifications.
    pub async fn wait_for(&self, token: &str, count: usize) -> Vec<ApnsPush> {
        self.state
            .arrivals
            .until(|| Some(self.received(token)).filter(|received| received.len() >= count))
            .await
    }

    /// How many different provider tokens were used.
    #[must_use]
    pub fn provider_tokens(&self) -> usize {
        self.state.tokens.lock().len()
    }

    /// All provider tokens that were used so far are expired from now on.
    pub fn expire_provider_tokens(&self) {
        let used = self.state.tokens.lock().clone();
        self.state.expired.lock().extend(used);
    }

    /// Answers the next notification in this way; it is not delivered.
    pub fn answer_next(&self, answer: Answer) {
        self.state.script.next(answer);
    }

    /// Answers all notifications in this way, until it is given `None`.
    pub fn answer_always(&self, answer: Option<Answer>) {
        self.state.script.always(answer);
    }

    /// An error as APNs words it.
    #[must_use]
    pub fn error(status: u16, reason: &str) -> Answer {
        Answer::json(status, &json!({ "reason": reason }))
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
}

impl State {
    fn answer(&self, parts: &Parts, body: &Bytes) -> Answer {
        let answer = match self.take(parts, body) {
            Ok(answer) => answer,
            Err((status, reason)) => ApnsService::error(status, reason),
        };
        self.arrivals.record();
        answer
    }

    fn take(&self, parts: &Parts, body: &Bytes) -> Result<Answer, (u16, &'static str)> {
        if parts.version != Version::HTTP_2 {
            return Err((505, "APNs speaks HTTP/2 only"));
        }
        if parts.method != "POST" {
            return Err((405, "MethodNotAllowed"));
        }
        let device = parts.uri.path().strip_prefix("/3/device/").ok_or((404, "BadPath"))?;
        self.check_token(parts)?;
        let headers = parts.headers.iter().filter(|(name, _)| name.as_str().starts_with("apns-"));
        let headers: BTreeMap<String, String> = headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        if body.len() > PAYLOAD_BYTES_MAX {
            return Err((413, "PayloadTooLarge"));
        }
        let payload: Value = serde_json::from_slice(body).map_err(|_| (400, "PayloadEmpty"))?;
        check_headers(&headers, &payload)?;
        if let Some(answer) = self.script.take() {
            return Ok(answer);
        }
        match self.devices.lock().get_mut(device) {
            None => Err((400, "BadDeviceToken")),
            Some(None) => {
                let since = unix_s() * 1_000;
                Ok(Answer::json(410, &json!({"reason": "Unregistered", "timestamp": since})))
            }
            Some(Some(received)) => {
                let id = headers.get("apns-id").cloned().unwrap_or_default();
                received.push(ApnsPush { headers, payload });
                Ok(Answer::status(200).header("apns-id", &id))
            }
        }
    }

    fn check_token(&self, parts: &Parts) -> Result<(), (u16, &'static str)> {
        let invalid = (403, "InvalidProviderToken");
        let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        let token = authorization
            .and_then(|value| value.to_ascii_lowercase().starts_with("bearer ").then(|| &value[7..]));
        let token = token.ok_or((403, "MissingProviderToken"))?;
        let header = decode_header(token).map_err(|_| invalid)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["iss"]);
        validation.validate_exp = false;
        let key = DecodingKey::from_ec_der(&self.public);
        let claims = decode::<Claims>(token, &key, &validation).map_err(|_| invalid)?.claims;
        if header.kid.as_deref() != Some(ApnsService::KEY_ID) || claims.iss != ApnsService::TEAM_ID {
            return Err(invalid);
        }
        self.tokens.lock().insert(token.to_owned());
        let is_old = claims.iat > unix_s() || unix_s() - claims.iat > TOKEN_AGE_S_MAX;
        if is_old || self.expired.lock().contains(token) {
            return Err((403, "ExpiredProviderToken"));
        }
        Ok(())
    }
}

fn check_headers(headers: &BTreeMap<String, String>, payload: &Value) -> Result<(), (u16, &'static str)> {
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    let aps = payload["aps"].as_object().ok_or((400, "PayloadEmpty"))?;
    match header("apns-topic") {
        "" => return Err((400, "MissingTopic")),
        ApnsService::TOPIC => {}
        _ => return Err((400, "DeviceTokenNotForTopic")),
    }
    if header("apns-collapse-id").len() > 64 {
        return Err((400, "BadCollapseId"));
    }
    if !header("apns-expiration").is_empty() && header("apns-expiration").parse::<u64>().is_err() {
        return Err((400, "BadExpirationDate"));
    }
    if !header("apns-id").is_empty() && Uuid::parse_str(header("apns-id")).is_err() {
        return Err((400, "BadMessageId"));
    }
    match (header("apns-push-type"), header("apns-priority")) {
        ("alert", "" | "10" | "5" | "1") => Ok(()),
        // A background push contains nothing that the user sees, and has a low priority.
        ("background", "5" | "1") => {
            let is_silent = aps.len() == 1 && aps.get("content-available") == Some(&json!(1));
            is_silent.then_some(()).ok_or((400, "InvalidPushType"))
        }
        ("background", _) => Err((400, "BadPriority")),
        _ => Err((400, "InvalidPushType")),
    }
}
