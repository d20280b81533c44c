//! An app's own server that follows the change feed: it records each event with its cursor, and goes on after the last
//! recorded one. It dies in the middle of some pages.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use im_client::protocol::StoredMessage;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::http::Http;

/// How long a call waits for an event.
const WAIT_S: u64 = 3;
/// Longer than a call takes that waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Before another gateway is asked, after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// Events of a page: few, so that rows are cut.
const LIMIT: usize = 40;
/// It dies in one of this many pages.
const DIES_IN: u32 = 8;

/// What one event says about the numbers of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedEvent {
    /// An entry.
    Message(String, Box<StoredMessage>),
    /// Numbers without entries, from the first to the last.
    Voided(String, u64, u64),
    /// Something else.
    Other,
}

/// An event as JSON.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) cursor: String,
    #[serde(rename = "type")]
    kind: String,
    conversation_id: Option<String>,
    message: Option<StoredMessage>,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Page {
    events: Vec<Event>,
    next_cursor: String,
}

/// What a reader has of one shard.
#[derive(Debug, Default)]
struct Shard {
    cursor: Mutex<String>,
    events: Mutex<Vec<FeedEvent>>,
}

/// A reader of all shards.
#[derive(Debug)]
pub struct FeedReader {
    gateways: Vec<Http>,
    shards: Vec<Arc<Shard>>,
    following: JoinSet<Vec<String>>,
    stop: CancellationToken,
}

impl FeedReader {
    /// Follows the feed from the events on that come now. `gateways`: the addresses of HTTP calls. `None` if the feed is off.
    ///
    /// # Errors
    /// The shards cannot be read.
    pub async fn start(gateways: &[String], operator_key: &str) -> anyhow::Result<Option<Self>> {
        let gateways: Vec<Http> = gateways.iter().map(|url| Http::of_operator(url, operator_key)).collect();
        let first = gateways.first().context("there are no gateways")?;
        let (status, answer) = first.call("GET", "/api/admin/feed/shards", None).await?;
        if status == 404 {
            return Ok(None);
        }
        anyhow::ensure!(status == 200, "the shards of the feed: {status} {answer}");
        let (mut reader, stop) = (Vec::new(), CancellationToken::new());
        let mut following = JoinSet::new();
        for (number, shard) in latest(&answer)?.into_iter().enumerate() {
            let shard = Arc::new(Shard { cursor: Mutex::new(shard), events: Mutex::default() });
            reader.push(Arc::clone(&shard));
            following.spawn(follow(number, shard, gateways.clone(), stop.clone()));
        }
        Ok(Some(Self { gateways, shards: reader, following, stop }))
    }

    /// Whether it has every event that there is now.
    ///
    /// # Errors
    /// It has not; or the shards cannot be read.
    pub async fn has_all(&self) -> anyhow::Result<()> {
        let answer = self.gateways[0].ok("GET", "/api/admin/feed/shards", None).await?;
        for (number, (latest, shard)) in latest(&answer)?.into_iter().zip(&self.shards).enumerate() {
            let cursor = shard.cursor.lock().clone();
            anyhow::ensure!(cursor == latest, "the reader is at {cursor} of {latest} in shard {number}");
        }
        Ok(())
    }

    /// Stops. Returns the events of each shard in order, and what was wrong, one sentence each.
    ///
    /// # Errors
    /// A task of it panicked.
    pub async fn finish(mut self) -> anyhow::Result<(Vec<Vec<FeedEvent>>, Vec<String>)> {
        self.stop.cancel();
        let mut complaints = Vec::new();
        while let Some(ended) = self.following.join_next().await {
            complaints.extend(ended?);
        }
        let events = self.shards.iter().map(|shard| std::mem::take(&mut *shard.events.lock()));
        Ok((events.collect(), complaints))
    }
}

/// The latest cursor of each shard, in the order of the shards.
fn latest(answer: &Value) -> anyhow::Result<Vec<String>> {
    let shards = answer["shards"].as_array().context("no shards")?;
    let cursor = |shard: &Value| Some(shard["latest_cursor"].as_str()?.to_owned());
    shards.iter().map(|shard| cursor(shard).context("no cursor")).collect()
}

/// Follows a shard until `stop`. Returns what was wrong.
async fn follow(
    number: usize,
    shard: Arc<Shard>,
    gateways: Vec<Http>,
    stop: CancellationToken,
) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut next = number;
    while !stop.is_cancelled() {
        let cursor = shard.cursor.lock().clone();
        let path = format!("/api/admin/feed?shard={number}&cursor={cursor}&limit={LIMIT}&wait_s={WAIT_S}");
        let call = gateways[next % gateways.len()].call("GET", &path, None);
        let answer = tokio::select! {
            answer = tokio::time::timeout(ANSWER_TIMEOUT, call) => answer,
            () = stop.cancelled() => return complaints,
        };
        match answer {
            Ok(Ok((200, page))) => match serde_json::from_value::<Page>(page) {
                Ok(page) => shard.record(page),
                Err(error) => complaints.push(format!("shard {number}: {error}")),
            },
            Ok(Ok((429 | 503, _)) | Err(_)) | Err(_) => {
                next += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Ok((status, answer))) => {
                complaints.push(format!("shard {number} after {cursor}: {status} {answer}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    complaints
}

impl Shard {
    /// Records the events of a page with their cursors, or some of them, as a server that dies.
    fn record(&self, page: Page) {
        let mut cursor = page.next_cursor;
        let mut count = page.events.len();
        if count > 0 && rand::random_range(0..DIES_IN) == 0 {
            count = rand::random_range(1..=count);
            cursor.clone_from(&page.events[count - 1].cursor);
        }
        self.events.lock().extend(page.events.into_iter().take(count).map(FeedEvent::from));
        *self.cursor.lock() = cursor;
    }
}

impl From<Event> for FeedEvent {
    fn from(event: Event) -> Self {
        let Event { kind, conversation_id, message, first_seq, last_seq, .. } = event;
        match (kind.as_str(), conversation_id, message, first_seq.zip(last_seq)) {
            ("message", Some(conversation), Some(message), _) => {
                Self::Message(conversation, Box::new(message))
            }
            ("voided", Some(conversation), _, Some((first, last))) => Self::Voided(conversation, first, last),
            _ => Self::Other,
        }
    }
}
