//! Processes that are killed during a burst: no message is lost, duplicated or reordered.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loadtest::scenario::{Deployment, Load, run};
use testbed::client::{Assignment, Chat, Client, Pace, Report, Sender, StoredMessage};
use testbed::judge::{Verdict, judge, judge_reader};
use testbed::stack::{Builder, System, wait_for};
use tokio::time::Instant;

const SENDERS: usize = 10;

/// A burst into two groups through both gateways.
struct Burst {
    report: Arc<Report>,
    senders: Vec<tokio::task::JoinHandle<anyhow::Result<Sender>>>,
}

impl Burst {
    fn start(system: &System, messages_each: usize) -> Self {
        let report = Arc::new(Report::default());
        let senders = (0..SENDERS).map(|n| {
            let mut gateways = system.ws_urls();
            gateways.rotate_left(n % 2);
            let (user, conversation) = (format!("user{n}"), format!("group_{}", n % 2));
            let pace = Pace::Window(16);
            let assignment = Assignment { conversation, messages: messages_each, size: 100, pace };
            let sender = Sender::new(user, assignment, gateways, Arc::clone(&report));
            tokio::spawn(async move {
                let mut sender = sender?;
                sender.run(Instant::now()).await?;
                Ok(sender)
            })
        });
        Self { senders: senders.collect(), report }
    }

    async fn until_acked(&self, count: u64) {
        wait_for("the burst", Duration::from_secs(60), async || {
            let acked = self.report.acked.load(Ordering::Relaxed);
            anyhow::ensure!(acked >= count, "{acked} of {count} acked");
            Ok(())
        })
        .await
        .unwrap();
    }

    async fn finish(self) -> Vec<Sender> {
        let mut senders = Vec::new();
        for sender in self.senders {
            senders.push(sender.await.unwrap().unwrap());
        }
        senders
    }
}

/// Waits until every acknowledged message can be pulled, judges, and sends a fresh message through both gateways.
async fn settle(system: &System, senders: &[Sender]) -> Verdict {
    for gateway in system.ws_urls() {
        let mut client = Client::connect(&gateway, "user0").await.unwrap();
        for conversation in ["group_0", "group_1"] {
            let of = senders.iter().filter(|sender| sender.conversation == conversation);
            let acked: usize =
                of.map(|sender| sender.sent.iter().filter(|sent| sent.acked.is_some()).count()).sum();
            wait_for(conversation, Duration::from_secs(30), async || {
                let stored = client.pull_all(conversation, 0).await?.len();
                anyhow::ensure!(stored >= acked, "{stored} of {acked} stored");
                Ok(())
            })
            .await
            .unwrap();
        }
    }
    let verdict = judge(&system.ws_urls(), senders).await.unwrap();
    let [first, .., last] = &system.ws_urls()[..] else { panic!("two gateways") };
    let (mut alice, mut bob) =
        (Client::connect(first, "alice").await.unwrap(), Client::connect(last, "bob").await.unwrap());
    bob.request(0, r#"{"cmd":0}"#).await.unwrap();
    alice.say("private_alice_bob", "fresh", "a fresh message").await.unwrap();
    bob.wait_for(|packet| packet.cmd == 5).await.unwrap();
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_through_two_gateways_has_one_order() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    let load = Load {
        groups: 3,
        listeners: 2,
        senders: 4,
        messages: 6_000,
        window: 32,
        size: 200,
        stored: false,
        rate: None,
    };
    let (deployment, report) = (Deployment::of(&system), Arc::new(Report::default()));
    let figures = run(&load, &deployment, "burst", &report, BTreeMap::new).await.unwrap();
    assert!(figures.verdict.is_good(), "{}", figures.verdict);
    assert_eq!((figures.acked, figures.verdict.acked), (6_000, 6_000));
    assert_eq!(figures.refused, 0, "nothing failed, so nothing is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pulls_continuously_sees_every_committed_message_once() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 400);
    let readers: Vec<_> = (0..2)
        .map(|n| {
            let (gateways, report) = (system.ws_urls(), Arc::clone(&burst.report));
            tokio::spawn(async move {
                let mut readers = [
                    Client::connect(&gateways[0], "user0").await?,
                    Client::connect(&gateways[1], "user0").await?,
                ];
                let (mut seen, mut cursor): (Vec<StoredMessage>, u64) = (Vec::new(), 0);
                let mut turn = n;
                // Until all messages are acknowledged and seen.
                loop {
                    let all_acked = report.acked.load(Ordering::Relaxed) == (SENDERS * 400) as u64;
                    let page = readers[turn % 2].pull(&format!("group_{n}"), cursor, 50).await?;
                    let messages = page.messages()?;
                    if all_acked && seen.len() == SENDERS / 2 * 400 {
                        return anyhow::Ok(seen);
                    }
                    cursor = page.next_cursor_seq.unwrap();
                    seen.extend(messages);
                    turn += 1;
                }
            })
        })
        .collect();
    let senders = burst.finish().await;
    let mut verdict = settle(&system, &senders).await;
    let mut client = Client::connect(&system.ws_urls()[0], "user0").await.unwrap();
    for (n, reader) in readers.into_iter().enumerate() {
        let seen = tokio::time::timeout(Duration::from_secs(30), reader).await.unwrap().unwrap().unwrap();
        let list = client.pull_all(&format!("group_{n}"), 0).await.unwrap();
        judge_reader(&seen, &list, &mut verdict);
        assert_eq!(seen, list);
    }
    assert!(verdict.is_good(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_killed_during_a_burst() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 600);
    burst.until_acked(1_500).await;
    system.worker(0).kill();
    burst.until_acked(4_000).await;
    system.worker(0).start_again().await.unwrap();
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_workers_are_killed_and_the_backlog_is_stored() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 600);
    burst.until_acked(1_500).await;
    system.worker(0).kill();
    system.worker(1).kill();
    // Messages are accepted without any worker.
    let senders = burst.finish().await;
    system.worker(1).start_again().await.unwrap();
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_killed_during_a_burst() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 600);
    burst.until_acked(1_500).await;
    system.gateway(0).kill();
    burst.until_acked(4_000).await;
    system.gateway(0).start_again().await.unwrap();
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_loses_all_data_during_a_burst() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 600);
    burst.until_acked(1_500).await;
    let redis = system.redis().unwrap();
    redis.kill();
    redis.lose_data().unwrap();
    redis.start_again().await.unwrap();
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_and_the_broker_are_killed_one_after_the_other() {
    let mut system = Builder::new().unlimited().on_own_servers().await.unwrap();
    let burst = Burst::start(&system, 1_500);
    burst.until_acked(2_000).await;
    let servers = system.servers().unwrap();
    servers.mysql.kill();
    burst.until_acked(5_000).await;
    servers.mysql.start_again().await.unwrap();
    servers.rabbit.kill();
    servers.rabbit.start_again().await.unwrap();
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_refused_promptly_while_the_broker_blocks_publishers() {
    let mut system = Builder::new().unlimited().on_own_servers().await.unwrap();
    let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
    let before = alice.say("group_1", "before", "hello").await.unwrap();
    system.servers().unwrap().rabbit.set_memory_alarm(true).await.unwrap();
    let chat = |n: usize| Chat {
        conversation: "group_1".into(),
        msg_id: format!("blocked-{n}"),
        content: "hello".into(),
        stored: false,
    };
    // A message may pass until the gateway is notified; from then on every answer is prompt.
    let mut sent = Vec::new();
    let mut refused = 0;
    for n in 0.. {
        let begin = Instant::now();
        let reply = alice.chat(&chat(n)).await.unwrap();
        sent.push(n);
        assert!(begin.elapsed() < Duration::from_secs(4), "answered after {:?}", begin.elapsed());
        match reply.code {
            0 => assert!(n < 100, "never refused"),
            503 => {
                assert!(reply.retry_after_ms().is_some());
                assert!(
                    refused == 0 || begin.elapsed() < Duration::from_secs(1),
                    "not prompt: {:?}",
                    begin.elapsed()
                );
                refused += 1;
            }
            code => panic!("{code}: {}", reply.payload),
        }
        if refused == 5 {
            break;
        }
    }
    assert!(alice.pull("group_1", 0, 10).await.unwrap().code == 0, "pulls are answered");
    system.servers().unwrap().rabbit.set_memory_alarm(false).await.unwrap();
    let mut last = before;
    for n in &sent {
        last = last.max(alice.say("group_1", &chat(*n).msg_id, "hello").await.unwrap());
    }
    wait_for("group_1", Duration::from_secs(20), async || {
        let all = alice.pull_all("group_1", 0).await?;
        anyhow::ensure!(all.len() == sent.len() + 1, "{} of {} messages", all.len(), sent.len() + 1);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_drains_and_restarts_one_by_one() {
    let mut system = Builder::new().unlimited().set("IM__DRAIN__SPREAD_MS", 300).for_test().await.unwrap();
    let burst = Burst::start(&system, 3_000);
    burst.until_acked(1_000).await;
    for n in 0..2 {
        assert!(system.worker(n).terminate().await.unwrap().success());
        system.worker(n).start_again().await.unwrap();
        assert!(system.gateway(n).terminate().await.unwrap().success());
        system.gateway(n).start_again().await.unwrap();
    }
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 3_000);
    assert_eq!(verdict.renumbered, 0, "no sequence number was voided");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_continues_as_if_it_still_owned_its_shards() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 3_000);
    burst.until_acked(1_000).await;
    system.worker(0).freeze();
    // Longer than a worker without a heartbeat counts as alive: the other one claims its shards.
    tokio::time::sleep(Duration::from_secs(6)).await;
    system.worker(0).thaw();
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_frozen_between_numbering_and_publishing() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 3_000);
    for _ in 0..3 {
        let acked = burst.report.acked.load(Ordering::Relaxed);
        burst.until_acked(acked + 1_000).await;
        system.gateway(0).freeze();
        // Longer than the hole timeout: numbers that it has assigned but not published are voided.
        tokio::time::sleep(Duration::from_secs(3)).await;
        system.gateway(0).thaw();
    }
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_goes_back_to_a_snapshot() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let burst = Burst::start(&system, 2_000);
    burst.until_acked(2_000).await;
    system.redis().unwrap().take_snapshot().unwrap();
    burst.until_acked(8_000).await;
    let redis = system.redis().unwrap();
    redis.kill();
    redis.restore_snapshot().unwrap();
    redis.start_again().await.unwrap();
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_get_a_resync_after_all_broker_connections_are_closed() {
    let mut system = Builder::new().unlimited().on_own_servers().await.unwrap();
    let mut listener = Client::connect(&system.ws_urls()[0], "listener").await.unwrap();
    listener.pull("group_0", 0, 1).await.unwrap();
    let burst = Burst::start(&system, 1_500);
    burst.until_acked(2_000).await;
    system.servers().unwrap().rabbit.close_connections().await.unwrap();
    listener.wait_for(|packet| packet.event() == Some("resync")).await.unwrap();
    let senders = burst.finish().await;
    let verdict = settle(&system, &senders).await;
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!(verdict.acked, SENDERS * 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_killed_repeatedly() {
    let mut system = Builder::new().unlimited().on_own_servers().await.unwrap();
    // Enough groups for every shard.
    let groups: Vec<String> = (0..24).map(|n| format!("group_{n}")).collect();
    let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
    for round in 0..4 {
        let mut acked = Vec::new();
        for group in &groups {
            acked.push(alice.say(group, &format!("m{round}"), "hello").await.unwrap());
        }
        let rabbit = &mut system.servers().unwrap().rabbit;
        rabbit.kill();
        rabbit.start_again().await.unwrap();
        for (group, seq) in groups.iter().zip(acked) {
            wait_for(group, Duration::from_secs(60), async || {
                let last = alice.pull_all(group, 0).await?.last().map(|message| message.seq);
                anyhow::ensure!(last >= Some(seq), "round {round}: at {last:?}, not yet at {seq}");
                Ok(())
            })
            .await
            .unwrap();
        }
    }
}
