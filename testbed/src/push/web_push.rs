//! A push service of RFC 8030, with its devices.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::http::request::Parts;
use parking_lot::Mutex;
use serde_json::Value;
use uuid::Uuid;

use super::answer::{Answer, Script};
use super::arrivals::Arrivals;
use super::device_keys::{DeviceKeys, MESSAGE_BYTES_MAX};
use super::server::Server;
use super::vapid;

/// Longest `Topic` (RFC 8030 §5.4).
const TOPIC_BYTES_MAX: usize = 32;
const URGENCIES: [&str; 4] = ["very-low", "low", "normal", "high"];

/// A message, as a device received and decrypted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The plaintext.
    pub payload: Vec<u8>,
    /// The header `Topic`.
    pub topic: Option<String>,
    /// The header `Urgency`.
    pub urgency: Option<String>,
    /// The header `TTL`.
    pub ttl_s: u64,
    /// The public VAPID key of the sender.
    pub vapid_key: String,
    /// The header `Authorization`.
    pub authorization: String,
}

impl Delivered {
    /// The payload as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Subscribed {
    keys: DeviceKeys,
    /// The only key whose messages are taken.
    vapid_key: Option<String>,
    is_gone: bool,
    is_connected: bool,
    waiting: Vec<Delivered>,
    delivered: Vec<Delivered>,
}

#[derive(Debug, Default)]
struct State {
    origin: OnceLock<String>,
    devices: Mutex<HashMap<String, Subscribed>>,
    script: Script,
    violations: Mutex<Vec<String>>,
    arrivals: Arrivals,
}

/// The push service.
#[derive(Debug)]
pub struct WebPushService {
    server: Server,
    state: Arc<State>,
}

/// A device with a subscription.
#[derive(Debug, Clone)]
pub struct PushDevice {
    state: Arc<State>,
    id: String,
    /// The URL to which messages are posted.
    pub endpoint: String,
    /// Its public key in base64url.
    pub p256dh: String,
    /// Its authentication secret in base64url.
    pub auth: String,
}

impl WebPushService {
    /// A push service on a free port.
    ///
    /// # Errors
    /// The system's.
    pub async fn start() -> anyhow::Result<Self> {
        let state = Arc::new(State::default());
        let handled = Arc::clone(&state);
        let server = Server::start(None, Arc::new(move |parts, body| handled.answer(parts, body))).await?;
        state.origin.get_or_init(|| server.url());
        Ok(Self { server, state })
    }

    /// A new subscription. With a `vapid_key`, the `applicationServerKey` of browsers, only messages that it signed are taken.
    #[must_use]
    pub fn subscribe(&self, vapid_key: Option<&str>) -> PushDevice {
        let keys = DeviceKeys::generate();
        let id = Uuid::new_v4().simple().to_string();
        let device = PushDevice {
            state: Arc::clone(&self.state),
            endpoint: format!("{}/push/{id}", self.server.url()),
            p256dh: URL_SAFE_NO_PAD.encode(&keys.public),
            auth: URL_SAFE_NO_PAD.encode(keys.auth),
            id: id.clone(),
        };
        let subscribed = Subscribed {
            keys,
            vapid_key: vapid_key.map(ToOwned::to_owned),
            is_gone: false,
            is_connected: true,
            waiting: Vec::new(),
            delivered: Vec::new(),
        };
        self.state.devices.lock().insert(id, subscribed);
        device
    }

    /// Answers the next request that is not already answered by a script in this way; it is not delivered.
    pub fn answer_next(&self, answer: Answer) {
        self.state.script.next(answer);
    }

    /// Answers all requests in this way, until it is given `None`.
    pub fn answer_always(&self, answer: Option<Answer>) {
        self.state.script.always(answer);
    }

    /// Requests that were not as the RFCs demand; each was answered with an error.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state.violations.lock().clone()
    }

    /// How many requests were answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.arrivals.count()
    }

    /// Waits until as many requests were answered.
    pub async fn wait_for_requests(&self, count: u64) {
        self.state.arrivals.until(|| (self.requests() >= count).then_some(())).await;
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

impl PushDevice {
    /// Ends the subscription: further messages are answered with 410.
    pub fn unsubscribe(&self) {
        self.with(|device| device.is_gone = true);
    }

    /// Disconnects the device: messages wait at the push service.
    pub fn disconnect(&self) {
        self.with(|device| device.is_connected = false);
    }

    /// Connects the device again: it gets what waits.
    pub fn connect(&self) {
        self.with(|device| {
            device.is_connected = true;
            let waiting = std::mem::take(&mut device.waiting);
            device.delivered.extend(waiting);
        });
        self.state.arrivals.record();
    }

    /// The messages that it received.
    #[must_use]
    pub fn received(&self) -> Vec<Delivered> {
        self.with(|device| device.delivered.clone())
    }

    /// Waits until it has received at least `count` messages.
    pub async fn wait_for(&self, count: usize) -> Vec<Delivered> {
        self.state.arrivals.until(|| Some(self.received()).filter(|received| received.len() >= count)).await
    }

    #[expect(clippy::expect_used, reason = "a device is never removed")]
    fn with<T>(&self, read: impl FnOnce(&mut Subscribed) -> T) -> T {
        read(self.state.devices.lock().get_mut(&self.id).expect("its subscription"))
    }
}

impl State {
    fn answer(&self, parts: &Parts, body: &Bytes) -> Answer {
        let answer = self.take(parts, body).unwrap_or_else(|(status, violation)| {
            self.violations.lock().push(violation.clone());
            Answer { body: violation, ..Answer::status(status) }
        });
        self.arrivals.record();
        answer
    }

    /// Delivers a message. The error is a violation with its status.
    fn take(&self, parts: &Parts, body: &Bytes) -> Result<Answer, (u16, String)> {
        let bad = |why: &str| (400, why.to_owned());
        let id = parts.uri.path().strip_prefix("/push/").ok_or_else(|| bad("this is no endpoint"))?;
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        if parts.method != "POST" {
            return Err((405, format!("{} is not POST", parts.method)));
        }
        if header("content-encoding") != Some("aes128gcm") {
            return Err((415, "the content encoding is not aes128gcm".to_owned()));
        }
        let authorization = header("authorization").ok_or((401, "no authorization".to_owned()))?;
        let origin = self.origin.get().map_or("", String::as_str);
        let vapid_key = vapid::check(authorization, origin).map_err(|why| (403, why.to_string()))?;
        let ttl_s = header("ttl").and_then(|ttl| ttl.parse().ok()).ok_or_else(|| bad("no TTL"))?;
        let topic = header("topic").map(ToOwned::to_owned);
        let is_url_safe = |topic: &String| {
            topic.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && (1..=TOPIC_BYTES_MAX).contains(&topic.len())
        };
        if !topic.as_ref().is_none_or(is_url_safe) {
            return Err(bad("the topic is not of 1 to 32 characters of base64url"));
        }
        let urgency = header("urgency").map(ToOwned::to_owned);
        if !urgency.as_deref().is_none_or(|urgency| URGENCIES.contains(&urgency)) {
            return Err(bad("the urgency is none"));
        }
        if body.len() > MESSAGE_BYTES_MAX {
            return Err((413, format!("{} bytes", body.len())));
        }
        if let Some(answer) = self.script.take() {
            return Ok(answer);
        }
        let mut devices = self.devices.lock();
        let Some(device) = devices.get_mut(id) else { return Ok(Answer::status(404)) };
        if device.is_gone {
            return Ok(Answer::status(410));
        }
        if device.vapid_key.as_ref().is_some_and(|key| *key != vapid_key) {
            return Err((403, "another VAPID key than the one of the subscription".to_owned()));
        }
        let payload = device.keys.decrypt(body).map_err(|why| bad(&why.to_string()))?;
        let authorization = authorization.to_owned();
        device.take(Delivered { payload, topic, urgency, ttl_s, vapid_key, authorization });
        let location = format!("{origin}/message/{}", Uuid::new_v4().simple());
        Ok(Answer::status(201).header("location", &location))
    }
}

impl Subscribed {
    fn take(&mut self, message: Delivered) {
        if self.is_connected {
            self.delivered.push(message);
            return;
        }
        // A message that waits is replaced by one with the same topic (RFC 8030 §5.4).
        if message.topic.is_some() {
            self.waiting.retain(|waiting| waiting.topic != message.topic);
        }
        if message.ttl_s > 0 {
            self.waiting.push(message);
        }
    }
}
