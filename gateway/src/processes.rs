//! The metrics of all live processes, fetched by this gateway for the operator, so that a browser needs one address.
//!
//! Only addresses that processes have published in Redis are contacted, no redirect is followed, and no key is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use shared::ids::unix_millis;
use shared::ops_client;
use shared::redis::RedisError;
use shared::redis::liveness_registry::LivenessRegistry;
use shared::redis::process_addresses::ProcessAddresses;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// The time between the begins of two rounds, a little less than the second between two calls of a page. Operators that
/// call in between get the last round.
const ROUND_INTERVAL: Duration = Duration::from_millis(900);
/// For the answer of one process.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Processes that are asked at the same time.
const CONCURRENCY: usize = 64;
/// Processes of one round; further ones are listed without metrics.
const PROCESSES_MAX: usize = 512;
/// Bytes of the metrics of one process: those of a worker with a thousand shards are a third of it.
const METRICS_BYTES_MAX: usize = 1 << 20;
/// Bytes of the metrics of all processes.
const ROUND_BYTES_MAX: usize = 32 << 20;

/// All live processes with their metrics.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When the round began, in milliseconds since the Unix epoch, by the clock of this gateway.
    pub time_ms: i64,
    /// Why the list of processes is that of an earlier round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
    /// Gateways first, each role by id.
    pub processes: Vec<Process>,
}

/// One live process.
#[derive(Debug, Serialize)]
pub struct Process {
    /// Which one.
    #[serde(flatten)]
    pub entry: Entry,
    /// When its answer arrived, in milliseconds since the Unix epoch, by the clock of this gateway.
    pub time_ms: i64,
    /// Its answer.
    #[serde(flatten)]
    pub result: Fetched,
}

/// A process in the liveness registry.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// `gateway` or `worker`.
    pub role: &'static str,
    /// As in the liveness registry.
    pub id: String,
    /// Where it serves its metrics.
    pub address: Option<String>,
}

/// The answer of a process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fetched {
    /// In the text format of Prometheus.
    Metrics(String),
    /// Why there are none.
    Error(String),
}

/// Fetches the metrics of all live processes.
#[derive(Debug)]
pub struct Processes {
    gateways: LivenessRegistry,
    workers: LivenessRegistry,
    addresses: ProcessAddresses,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    round: Option<(Instant, Arc<Report>)>,
    /// The processes by the last answer of Redis.
    known: Option<Vec<Entry>>,
}

impl Processes {
    /// The processes of these registries.
    #[must_use]
    pub fn new(gateways: LivenessRegistry, workers: LivenessRegistry, addresses: ProcessAddresses) -> Self {
        Self { gateways, workers, addresses, last: Mutex::default() }
    }

    /// The metrics of all live processes, at most a second old. Concurrent callers share one round. If Redis cannot be
    /// reached, they are those of the processes that were known before.
    ///
    /// # Errors
    /// Redis cannot be reached, and no process is known.
    pub async fn report(&self) -> Result<Arc<Report>, RedisError> {
        let mut last = self.last.lock().await;
        let began = Instant::now();
        if let Some((then, report)) = &last.round
            && began.duration_since(*then) < ROUND_INTERVAL
        {
            return Ok(Arc::clone(report));
        }
        let time_ms = unix_millis();
        let (entries, stale) = match (self.entries().await, last.known.take()) {
            (Ok(entries), _) => (entries, None),
            (Err(error), Some(known)) => (known, Some(error.to_string())),
            (Err(error), None) => return Err(error),
        };
        last.known = Some(entries.clone());
        let report = Arc::new(Report { time_ms, stale, processes: fetch_all(entries).await });
        last.round = Some((began, Arc::clone(&report)));
        Ok(report)
    }

    /// Gateways first, each role by id.
    async fn entries(&self) -> Result<Vec<Entry>, RedisError> {
        let (gateways, workers) = tokio::try_join!(self.gateways.live(), self.workers.live())?;
        let roles = gateways.iter().map(|_| "gateway").chain(workers.iter().map(|_| "worker"));
        let roles: Vec<_> = roles.collect();
        let ids: Vec<String> = gateways.into_iter().chain(workers).collect();
        let addresses = self.addresses.of(&ids).await?;
        let all = roles.into_iter().zip(ids).zip(addresses);
        Ok(all.map(|((role, id), address)| Entry { role, id, address }).collect())
    }
}

async fn fetch_all(entries: Vec<Entry>) -> Vec<Process> {
    let left = AtomicUsize::new(ROUND_BYTES_MAX);
    let fetching = entries.into_iter().enumerate().map(|(n, entry)| {
        let left = &left;
        async move {
            let fetched = if n < PROCESSES_MAX {
                fetch(&entry, left).await
            } else {
                Err(format!("more than {PROCESSES_MAX} processes: it was not asked"))
            };
            let result = fetched.map_or_else(Fetched::Error, Fetched::Metrics);
            Process { entry, time_ms: unix_millis(), result }
        }
    });
    stream::iter(fetching).buffered(CONCURRENCY).collect().await
}

async fn fetch(entry: &Entry, left: &AtomicUsize) -> Result<String, String> {
    let Some(address) = &entry.address else {
        return Err(
            "it publishes no address of its metrics: it has just started, or is of an earlier version".into(),
        );
    };
    let text = timeout(FETCH_TIMEOUT, get_metrics(address, left))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())))?;
    if !text.contains(&entry.id) {
        return Err(format!(
            "another process answers at its address: set ops.address of this {} to one that all hosts reach, or \
             ops.advertise",
            entry.role
        ));
    }
    Ok(text)
}

async fn get_metrics(address: &str, left: &AtomicUsize) -> Result<String, String> {
    match ops_client::get(address, "/metrics", |text, data| add(text, data, left)).await? {
        (200, text) => Ok(text),
        (status, _) => Err(format!("it answers with status {status}")),
    }
}

/// Within the limits of bytes.
fn add(text: &mut Vec<u8>, data: &[u8], left: &AtomicUsize) -> Result<(), String> {
    if text.len() + data.len() > METRICS_BYTES_MAX {
        return Err(format!("its metrics are longer than {METRICS_BYTES_MAX} bytes"));
    }
    let take = |left: usize| left.checked_sub(data.len());
    if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
        return Err(format!("the metrics of all processes are longer than {ROUND_BYTES_MAX} bytes"));
    }
    text.extend_from_slice(data);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What is fetched from a process with the id `p1` that answers with this text.
    async fn fetched(answer: String) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /metrics HTTP/1.1\r\n"));
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let entry = Entry { role: "worker", id: "p1".to_owned(), address: Some(address) };
        fetch(&entry, &AtomicUsize::new(ROUND_BYTES_MAX)).await
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn metrics_are_those_of_the_process_or_the_reason_is_told() {
        assert_eq!(fetched(ok("id=\"p1\" 1\n")).await.unwrap(), "id=\"p1\" 1\n");
        let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/p1\r\ncontent-length: 0\r\n\r\n";
        for (answer, reason) in [
            (ok("id=\"p2\" 1\n"), "another process answers at its address: set ops.address"),
            (redirect.to_owned(), "status 302"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nearly".to_owned(), "ended early"),
            ("no HTTP at all\r\n\r\n".to_owned(), "the request failed"),
            (ok(&"x".repeat(METRICS_BYTES_MAX + 1)), "longer than 1048576 bytes"),
        ] {
            let error = fetched(answer).await.unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn a_process_that_cannot_be_reached_is_told_with_the_reason() {
        let left = AtomicUsize::new(ROUND_BYTES_MAX);
        let entry = |address: Option<&str>| Entry {
            role: "gateway",
            id: "p1".to_owned(),
            address: address.map(str::to_owned),
        };
        for (address, reason) in [
            (None, "publishes no address"),
            (Some("127.0.0.1:1"), "cannot connect"),
            (Some("no address"), "cannot connect"),
        ] {
            let error = fetch(&entry(address), &left).await.unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        // It accepts, and does not answer.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap().to_string();
        let error = fetch(&entry(Some(&silent)), &left).await.unwrap_err();
        assert_eq!(error, "no answer within 1 s");
    }

    #[test]
    fn all_processes_share_a_limit_of_bytes() {
        let left = AtomicUsize::new(10);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        assert!(add(&mut one, b"123456", &left).is_ok());
        assert!(add(&mut two, b"12345", &left).is_err());
        assert!(add(&mut two, b"1234", &left).is_ok());
    }

    #[test]
    fn a_process_has_metrics_or_an_error_beside_its_entry() {
        let entry = Entry { role: "worker", id: "p1".to_owned(), address: None };
        let shown =
            |result| serde_json::to_string(&Process { entry: entry.clone(), time_ms: 7, result }).unwrap();
        let head = r#"{"role":"worker","id":"p1","address":null,"time_ms":7"#;
        assert_eq!(shown(Fetched::Metrics("a 1".to_owned())), format!("{head},\"metrics\":\"a 1\"}}"));
        assert_eq!(shown(Fetched::Error("why".to_owned())), format!("{head},\"error\":\"why\"}}"));
    }
}
