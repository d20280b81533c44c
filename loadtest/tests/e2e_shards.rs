//! Shards that move between workers, and what clients and operators notice of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use testbed::client::Client;
use testbed::stack::{Builder, System, wait_for};
use tokio::task::JoinHandle;

/// Enough for every shard to have traffic at any moment.
const GROUPS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than a gateway waits for the end of a stream before it reports a loss.
const SILENCE: Duration = Duration::from_secs(5);

fn group(n: usize) -> String {
    format!("group_{n}")
}

/// A member of all groups that only listens.
struct Listener {
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Received {
    /// The sequence numbers of each group, from pushes alone.
    pushed: BTreeMap<String, BTreeSet<u64>>,
    resyncs: usize,
}

impl Listener {
    /// Connects, joins all groups, and listens from then on.
    async fn start(gateway: &str, user: &str) -> Self {
        let mut client = Client::connect(gateway, user).await.unwrap();
        for n in 0..GROUPS {
            assert_eq!(client.pull(&group(n), 0, 1).await.unwrap().code, 0);
        }
        let received = Arc::<Mutex<Received>>::default();
        let recorded = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok(packet) = client.next().await {
                let mut received = recorded.lock();
                if packet.event() == Some("resync") {
                    received.resyncs += 1;
                } else if packet.cmd == 5 {
                    let seqs = packet.messages().unwrap().into_iter().map(|message| message.seq);
                    received.pushed.entry(packet.conversation_id.unwrap()).or_default().extend(seqs);
                }
            }
        });
        Self { received, task }
    }

    fn resyncs(&self) -> usize {
        self.received.lock().resyncs
    }
}

/// One message after the other into every group.
struct Traffic {
    stop: Arc<AtomicBool>,
    /// The last acknowledged sequence number of each group.
    acked: Arc<Mutex<BTreeMap<String, u64>>>,
    senders: Vec<JoinHandle<()>>,
}

impl Traffic {
    async fn start(system: &System) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let acked = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        let urls = system.ws_urls();
        let mut senders = Vec::new();
        for n in 0..GROUPS {
            let mut client = Client::connect(&urls[n % urls.len()], &format!("sender{n}")).await.unwrap();
            let (stop, acked) = (Arc::clone(&stop), Arc::clone(&acked));
            senders.push(tokio::spawn(async move {
                for message in 0.. {
                    let seq = client.say(&group(n), &format!("m{message}"), "hello").await.unwrap();
                    acked.lock().insert(group(n), seq);
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }));
        }
        Self { stop, acked, senders }
    }

    /// Waits until every group has got `count` more messages.
    async fn flows_on(&self, count: u64) {
        let before = self.acked.lock().clone();
        wait_for("traffic in every group", TIMEOUT, async || {
            let now = self.acked.lock();
            let flows = (0..GROUPS).map(group).all(|group| {
                now.get(&group).is_some_and(|seq| *seq >= before.get(&group).unwrap_or(&0) + count)
            });
            anyhow::ensure!(flows, "from {before:?} to {now:?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Ends it, and returns the last sequence number of each group.
    async fn finish(self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
        let acked = self.acked.lock();
        acked.clone()
    }
}

/// Waits until the listener has got every message of every group as a push.
async fn expect_all_pushed(listener: &Listener, last: &BTreeMap<String, u64>) {
    wait_for("every push", TIMEOUT, async || {
        let received = listener.received.lock();
        for (group, last) in last {
            let pushed = received.pushed.get(group).cloned().unwrap_or_default();
            let missing: Vec<u64> = (1..=*last).filter(|seq| !pushed.contains(seq)).collect();
            anyhow::ensure!(missing.is_empty(), "{group} misses {missing:?} of {last}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// Lines of the logs that an operator should look at, apart from statements that are slow because the machine is busy.
fn warnings(logs: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for entry in std::fs::read_dir(logs).unwrap() {
        let log = entry.unwrap().path();
        let name = log.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("worker") || name.starts_with("gateway") {
            let lines = std::fs::read_to_string(&log).unwrap();
            let bad = lines.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
            let bad = bad.filter(|line| !line.contains("slow statement"));
            warnings.extend(bad.map(|line| format!("{name}: {line}")));
        }
    }
    warnings
}

async fn system() -> System {
    Builder::new().unlimited().for_test().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_leave_and_join_in_order_cost_no_push_and_no_resync() {
    let mut system = system().await;
    let [first, second] = &system.ws_urls()[..] else { panic!("two gateways") };
    let listeners = [Listener::start(first, "anna").await, Listener::start(second, "ben").await];
    let traffic = Traffic::start(&system).await;
    traffic.flows_on(10).await;
    assert!(system.worker(0).terminate().await.unwrap().success());
    traffic.flows_on(30).await;
    system.add_worker().await.unwrap();
    traffic.flows_on(30).await;
    // Nothing must happen for this long.
    tokio::time::sleep(SILENCE).await;
    let last = traffic.finish().await;
    let logs = system.logs().to_owned();
    for listener in &listeners {
        expect_all_pushed(listener, &last).await;
        assert_eq!(listener.resyncs(), 0, "{:?}", warnings(&logs));
        listener.task.abort();
    }
    assert_eq!(warnings(&logs), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_makes_clients_pull() {
    // One worker owns all shards: of two, the killed one may own none of those with messages.
    let mut system = Builder::new().unlimited().workers(1).for_test().await.unwrap();
    let [first, second] = &system.ws_urls()[..] else { panic!("two gateways") };
    let listeners = [Listener::start(first, "anna").await, Listener::start(second, "ben").await];
    let traffic = Traffic::start(&system).await;
    traffic.flows_on(10).await;
    system.worker(0).kill();
    system.add_worker().await.unwrap();
    for listener in &listeners {
        wait_for("a resync", TIMEOUT, async || {
            anyhow::ensure!(listener.resyncs() > 0, "none yet");
            Ok(())
        })
        .await
        .unwrap();
    }
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_start_and_an_orderly_stop_log_no_warning() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Builder::new().unlimited().folder(folder.path()).set("IM__LOG__FILTER", "info");
    let mut system = builder.for_test().await.unwrap();
    let listener = Listener::start(&system.ws_urls()[0], "anna").await;
    let traffic = Traffic::start(&system).await;
    traffic.flows_on(5).await;
    system.add_worker().await.unwrap();
    traffic.flows_on(5).await;
    let last = traffic.finish().await;
    expect_all_pushed(&listener, &last).await;
    let logs = system.logs().to_owned();
    system.stop().await;
    assert_eq!(warnings(&logs), [""; 0]);
    let worker = std::fs::read_to_string(logs.join("worker-0.log")).unwrap();
    assert!(worker.contains("started; its health checks"), "the log is where it is looked for: {worker}");
}
