//! The number of shards is changed under load, while processes are killed: no message is lost, duplicated or reordered, and
//! a reader of the change feed and a webhook are told every one once, in order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chaos::JudgedWebhook;
use serde_json::Value;
use testbed::client::{Assignment, Client, FeedReader, Pace, Report, Sender};
use testbed::judge::{judge_and_keep, judge_feed};
use testbed::stack::{Builder, System, wait_for};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Enough for every shard of every layout to have traffic at any moment.
const SENDERS: u32 = 24;
/// Between two messages of a sender.
const PERIOD: Duration = Duration::from_millis(60);
/// A change takes about 15 s without faults; a dead process delays it by 10 s.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Until then every request must be answered.
const DEADLINE: Duration = Duration::from_secs(5);

/// Senders that go on until they are stopped, each in a group of its own.
struct Traffic {
    report: Arc<Report>,
    stop: CancellationToken,
    sending: JoinSet<Sender>,
    feed: FeedReader,
    webhook: JudgedWebhook,
}

impl Traffic {
    async fn start(system: &System) -> Self {
        let feed = FeedReader::start(&system.http_urls(), system.operator_key()).await.unwrap().unwrap();
        let webhook = JudgedWebhook::start(system).await.unwrap().unwrap();
        let (report, stop, mut sending) =
            (Arc::new(Report::default()), CancellationToken::new(), JoinSet::new());
        for n in 0..SENDERS {
            let mut gateways = system.ws_urls();
            gateways.rotate_left(usize::from(n % 2 == 1));
            // Spread over the period.
            let moments = Arc::from([PERIOD * n / SENDERS]);
            let pace = Pace::Endless { moments, period: PERIOD, stop: stop.clone() };
            let assignment = Assignment { conversation: format!("group_{n}"), messages: 0, size: 100, pace };
            let sender = Sender::new(format!("user{n}"), assignment, gateways, Arc::clone(&report));
            sending.spawn(async move {
                let mut sender = sender.unwrap();
                sender.run(Instant::now()).await.unwrap();
                sender
            });
        }
        Self { report, stop, sending, feed, webhook }
    }

    async fn flows_on(&self) {
        let before = self.report.acked.load(Ordering::Relaxed);
        wait_for("traffic", TIMEOUT, async || {
            let acked = self.report.acked.load(Ordering::Relaxed);
            anyhow::ensure!(acked >= before + 500, "{acked} acked, {before} before");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Ends it and judges it. Returns the longest wait for an answer, and the refusals.
    async fn judge(self, system: &System) -> (Duration, u64) {
        self.stop.cancel();
        let senders = self.sending.join_all().await;
        let longest = senders.iter().map(|sender| sender.latency.max()).max().unwrap();
        expect_all_stored(system, &senders).await;
        let (mut verdict, lists) = judge_and_keep(&system.ws_urls(), &senders).await.unwrap();
        wait_for("the reader of the feed", TIMEOUT, async || self.feed.has_all().await).await.unwrap();
        for told in [self.feed.finish().await, self.webhook.finish(TIMEOUT).await] {
            let (shards, complaints) = told.unwrap();
            assert_eq!(complaints, [""; 0]);
            judge_feed(&shards, &lists, &mut verdict);
        }
        let faults = errors(system);
        assert_eq!(faults, [""; 0], "a process failed");
        let refused = self.report.refused.load(Ordering::Relaxed);
        println!("{verdict}\nlongest wait {} ms, {refused} refused", longest / 1_000);
        assert!(verdict.is_good(), "{verdict}");
        assert!(verdict.acked > 2_000, "{verdict}");
        (Duration::from_micros(longest), refused)
    }
}

/// Waits until as many messages are stored as were acknowledged: a message is accepted before it is committed.
async fn expect_all_stored(system: &System, senders: &[Sender]) {
    let mut client = Client::connect(&system.ws_urls()[0], "user0").await.unwrap();
    for sender in senders {
        let acked = sender.sent.iter().filter(|sent| sent.acked.is_some()).count();
        wait_for("the last messages", TIMEOUT, async || {
            let stored = client.pull_all(&sender.conversation, 0).await?.len();
            anyhow::ensure!(stored >= acked, "{} has {stored} of {acked}", sender.conversation);
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// Errors in the logs of gateways and workers: none is expected, whatever is killed.
fn errors(system: &System) -> Vec<String> {
    let logs = std::fs::read_dir(system.logs()).unwrap().map(|entry| entry.unwrap().path());
    let of = logs.filter(|log| {
        let name = log.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("gateway") || name.starts_with("worker")
    });
    let texts = of.map(|log| std::fs::read_to_string(log).unwrap());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains("ERROR"))
        .collect()
}

/// `imctl shards set COUNT --apply`, running.
struct Change {
    child: Child,
    lines: mpsc::Receiver<String>,
}

fn imctl(system: &System, arguments: &[&str]) -> Command {
    let mut command = system.imctl().unwrap();
    command.args(arguments).arg("--json");
    command
}

impl Change {
    fn start(system: &System, count: &str) -> Self {
        let mut command = imctl(system, &["shards", "set", count, "--apply"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stderr, (send, lines)) = (child.stderr.take().unwrap(), mpsc::channel(1_000));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                println!("imctl: {line}");
                // A change has some ten lines.
                let _ = send.try_send(line);
            }
        });
        Self { child, lines }
    }

    /// Waits until it reports this phase.
    async fn reaches(&mut self, phase: &str) {
        let reached = async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(phase) {
                    return;
                }
            }
            panic!("the command ended before {phase}");
        };
        tokio::time::timeout(TIMEOUT, reached).await.unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and returns what it printed.
    async fn finish(mut self) -> Value {
        let until_end = async {
            let mut all = Vec::new();
            while let Some(line) = self.lines.recv().await {
                all.push(line);
            }
            all
        };
        let lines = tokio::time::timeout(TIMEOUT, until_end).await.unwrap();
        assert!(self.child.wait().unwrap().success(), "{lines:?}");
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        println!("imctl: {printed}");
        serde_json::from_str(&printed).unwrap()
    }
}

/// Checks that `imctl status` reports no fault and this number of consumed shards.
async fn expect_healthy(system: &System, shards: usize) {
    wait_for("a healthy status", TIMEOUT, async || {
        let printed = imctl(system, &["status"]).output()?;
        let status: Value = serde_json::from_slice(&printed.stdout)?;
        let (findings, unknown) = (&status["findings"], &status["unknown"]);
        anyhow::ensure!(findings == &Value::Array(Vec::new()), "{findings} {unknown}");
        anyhow::ensure!(status["shards_change"].is_null(), "{}", status["shards_change"]);
        let all = status["shards"].as_array().unwrap();
        anyhow::ensure!(all.len() == shards, "{all:?}");
        anyhow::ensure!(all.iter().all(|shard| shard["consumers"] == 1), "{all:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_grow_and_shrink_under_load_and_nobody_is_refused() {
    let builder = Builder::new().unlimited().webhooks().set("IM__SHARDS__COUNT", 2);
    let system = builder.for_test().await.unwrap();
    let planned = imctl(&system, &["shards", "set", "5"]).output().unwrap();
    let plan: Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!((plan["from"].as_u64(), plan["is_done"].as_bool()), (Some(2), Some(false)), "{plan}");
    assert!(planned.status.success(), "{plan}");

    let traffic = Traffic::start(&system).await;
    traffic.flows_on().await;
    for count in ["5", "3"] {
        let done = Change::start(&system, count).finish().await;
        assert_eq!(done["is_done"], true);
        assert!(done["held_ms"].as_u64().unwrap() < 2_000, "{done}");
        traffic.flows_on().await;
        expect_healthy(&system, count.parse().unwrap()).await;
    }
    let (longest, refused) = traffic.judge(&system).await;
    assert_eq!(refused, 0);
    assert!(longest < DEADLINE, "{longest:?}");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_shards_survives_the_death_of_a_gateway_a_worker_and_the_command() {
    let builder = Builder::new().unlimited().webhooks().set("IM__SHARDS__COUNT", 2);
    let mut system = builder.for_test().await.unwrap();
    let traffic = Traffic::start(&system).await;
    traffic.flows_on().await;

    // The command dies while gateways hold messages: they go on by themselves.
    let mut change = Change::start(&system, "5");
    change.reaches("paused").await;
    change.kill();
    traffic.flows_on().await;
    // It goes on where it was; a gateway and a worker die.
    let mut change = Change::start(&system, "5");
    change.reaches("announced").await;
    system.gateway(0).kill();
    system.gateway(0).start_again().await.unwrap();
    change.reaches("draining").await;
    system.worker(0).kill();
    system.worker(0).start_again().await.unwrap();
    change.finish().await;
    traffic.flows_on().await;
    expect_healthy(&system, 5).await;

    let mut change = Change::start(&system, "3");
    change.reaches("paused").await;
    system.gateway(1).kill();
    system.gateway(1).start_again().await.unwrap();
    change.reaches("retiring").await;
    change.kill();
    system.worker(1).kill();
    system.worker(1).start_again().await.unwrap();
    Change::start(&system, "3").finish().await;
    traffic.flows_on().await;
    expect_healthy(&system, 3).await;
    traffic.judge(&system).await;
    system.stop().await;
}
