//! The endpoint of a webhook, as a test controls it: HTTP by hand, so that it can answer wrongly, late or not at all.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::conformance;
use super::feed_reader::{Event, FeedEvent};

/// What is done about one call.
#[derive(Debug, Clone)]
pub enum Behavior {
    /// This status, after a time.
    Status(Duration, u16),
    /// The events are recorded, and the answer is 500: as if it was lost.
    Lost,
    /// A whole response.
    Raw(String),
    /// No answer, ever.
    Never,
}

/// A call that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// The header `webhook-id`.
    pub id: String,
    /// How many of the receiver's secrets have signed it; none if its time is not the present.
    pub signatures: usize,
    /// The body.
    pub body: Value,
}

impl Received {
    /// Its shard and its events.
    #[must_use]
    pub fn events(&self) -> (u64, &[Value]) {
        let events = self.body["events"].as_array().map_or(&[][..], Vec::as_slice);
        (self.body["shard"].as_u64().unwrap_or_default(), events)
    }
}

/// Decides about a call.
type Decide = Arc<dyn Fn(&Received) -> Behavior + Send + Sync>;

/// The place of an event: `17.3` is 17 and 3.
type Place = (u64, u64);

/// What was recorded of a shard, by the receivers that answered with 2xx or crashed before that.
#[derive(Debug, Default)]
struct Shard {
    /// The place after the last event.
    recorded: Option<Place>,
    events: Vec<FeedEvent>,
}

#[derive(Default)]
struct Shared {
    secrets: Mutex<Vec<String>>,
    decide: Mutex<Option<Decide>>,
    calls: Mutex<Vec<Received>>,
    /// Calls are not kept: for long runs.
    is_counting: std::sync::atomic::AtomicBool,
    shards: Mutex<BTreeMap<u64, Shard>>,
    complaints: Mutex<Vec<String>>,
}

/// A running endpoint; it is dead while nothing is in `running`.
pub struct WebhookReceiver {
    port: u16,
    shared: Arc<Shared>,
    running: Option<JoinSet<()>>,
}

impl std::fmt::Debug for WebhookReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookReceiver").field("port", &self.port).finish_non_exhaustive()
    }
}

impl WebhookReceiver {
    /// An endpoint that answers each call with 200.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mut receiver = Self { port, shared: Arc::default(), running: None };
        receiver.serve(listener);
        Ok(receiver)
    }

    fn serve(&mut self, listener: TcpListener) {
        let (shared, mut running) = (Arc::clone(&self.shared), JoinSet::new());
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                connections.spawn(async move { connection(stream, &shared).await });
            }
        });
        self.running = Some(running);
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The secrets of which it knows.
    pub fn set_secrets(&self, secrets: &[&str]) {
        *self.shared.secrets.lock() = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    }

    /// From now on it does this. An event counts as recorded if the status is 2xx.
    pub fn set(&self, decide: impl Fn(&Received) -> Behavior + Send + Sync + 'static) {
        *self.shared.decide.lock() = Some(Arc::new(decide));
    }

    /// Keeps no calls from now on.
    pub fn keep_no_calls(&self) {
        self.shared.is_counting.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Received> {
        self.shared.calls.lock().clone()
    }

    /// The number of events that were recorded, each once.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.shared.shards.lock().values().map(|shard| shard.events.len()).sum()
    }

    /// The events of each shard that were recorded, in the order of their first deliveries, and what was wrong, one sentence
    /// each.
    #[must_use]
    pub fn firsts(&self) -> (Vec<Vec<FeedEvent>>, Vec<String>) {
        let shards = self.shared.shards.lock().values().map(|shard| shard.events.clone()).collect();
        (shards, self.shared.complaints.lock().clone())
    }

    /// Ends all connections, and takes no further ones.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// Starts it again at the same address.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn revive(&mut self) -> std::io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await?;
        self.serve(listener);
        Ok(())
    }
}

impl Shared {
    fn decide(&self, call: &Received) -> Behavior {
        let decide = self.decide.lock().clone();
        decide.map_or(Behavior::Status(Duration::ZERO, 200), |decide| decide(call))
    }

    /// Records the events that are not recorded yet.
    fn record(&self, call: &Received) {
        let (shard, events) = call.events();
        let mut shards = self.shards.lock();
        let known = shards.entry(shard).or_default();
        for event in events {
            let place = event["cursor"].as_str().and_then(place);
            let Ok(parsed) = serde_json::from_value::<Event>(event.clone()) else {
                self.complaints.lock().push(format!("an event of shard {shard} is not understood: {event}"));
                continue;
            };
            if event["type"] == "skipped" {
                self.complaints.lock().push(format!("events of shard {shard} are skipped: {event}"));
            }
            if known.recorded < place {
                known.recorded = place;
                known.events.push(FeedEvent::from(parsed));
            }
        }
    }
}

fn place(cursor: &str) -> Option<Place> {
    let (position, index) = cursor.split_once('.').unwrap_or((cursor, "0"));
    Some((position.parse().ok()?, index.parse().ok()?))
}

async fn connection(mut stream: TcpStream, shared: &Shared) {
    while let Some((head, body)) = request(&mut stream).await {
        let header = |name: &str| {
            let prefix = format!("{name}: ");
            head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
        };
        let (id, sent_at, given) =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        let signatures = count(&shared.secrets.lock(), (&id, &sent_at, &given), &body);
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let call = Received { at: Instant::now(), id, signatures, body };
        if !shared.is_counting.load(std::sync::atomic::Ordering::Relaxed) {
            shared.complaints.lock().extend(conformance::check_call(&call.body).err());
            shared.calls.lock().push(call.clone());
        }
        let response = match shared.decide(&call) {
            Behavior::Status(delay, status) => {
                tokio::time::sleep(delay).await;
                if (200..300).contains(&status) {
                    shared.record(&call);
                }
                format!("HTTP/1.1 {status} Status\r\ncontent-length: 2\r\n\r\n{{}}")
            }
            Behavior::Lost => {
                shared.record(&call);
                "HTTP/1.1 500 Lost\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            Behavior::Raw(response) => response,
            Behavior::Never => std::future::pending().await,
        };
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// How many of `secrets` have signed the call; none if it is of another time.
fn count(secrets: &[String], (id, sent_at, given): (&str, &str, &str), body: &[u8]) -> usize {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    if sent_at.parse::<u64>().is_ok_and(|sent_at| now.abs_diff(sent_at) > 60) {
        return 0;
    }
    let signed = [format!("{id}.{sent_at}.").as_bytes(), body].concat();
    let signatures: HashSet<&str> = given.split(' ').collect();
    let is_there = |secret: &&String| {
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap_or_default();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed);
        signatures.contains(format!("v1,{}", STANDARD.encode(tag)).as_str())
    };
    secrets.iter().filter(is_there).count()
}

/// The head and the body of the next request; `None` at the end of the connection. Names of headers are in lower case.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut read, mut buffer) = (Vec::new(), vec![0; 65_536]);
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            let length: usize = length.parse().ok()?;
            if read.len() >= end + 4 + length {
                return Some((head, read.split_off(end + 4)));
            }
        }
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
    }
}
