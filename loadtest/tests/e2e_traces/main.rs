//! Traces of messages over real gateways and workers, received by a collector in this process.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod collector;

use std::time::{Duration, Instant};

use collector::{Answer, Collector, Span};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use serde_json::Value;
use testbed::client::Client;
use testbed::meter::metric;
use testbed::stack::{Builder, System, wait_for};

const TIMEOUT: Duration = Duration::from_secs(30);
const CHAT: &str = "private_alice_bob";
const CONTENT: &str = "a sentence that nobody else may read";
const SHARDS: u16 = 8;
/// Longer than an export takes, and shorter than what the stop of a gateway may take: 13 s and 2 s for spans.
const STOP_MAX: Duration = Duration::from_secs(16);

async fn system(endpoint: &str, ratio: f64, workers: usize) -> System {
    builder(endpoint, ratio, workers).for_test().await.unwrap()
}

fn builder(endpoint: &str, ratio: f64, workers: usize) -> Builder {
    Builder::new()
        .workers(workers)
        .set("IM__SHARDS__COUNT", SHARDS)
        .set("IM__TRACES__OTLP_ENDPOINT", endpoint)
        .set("IM__TRACES__SAMPLE_RATIO", ratio)
        .set("IM__TRACES__PER_SECOND_MAX", 1_000)
}

/// Alice at the first gateway, and Bob at the second one, who gets pushes from here on.
async fn clients(system: &System) -> (Client, Client) {
    let [first, second] = &system.ws_urls()[..] else { panic!("two gateways") };
    let alice = Client::connect(first, "alice").await.unwrap();
    let mut bob = Client::connect(second, "bob").await.unwrap();
    bob.request(0, r#"{"cmd":0}"#).await.unwrap();
    (alice, bob)
}

/// The spans of the message, once one of them is of each of `names`.
async fn trace(collector: &Collector, msg_id: &str, names: &[&str]) -> Vec<Span> {
    let mut found = Vec::new();
    wait_for("the trace", TIMEOUT, async || {
        let all = collector.spans();
        let of_message =
            |span: &&Span| span.attributes.get("messaging.message.id").is_some_and(|id| id == msg_id);
        let root = all.iter().find(of_message);
        let trace = root.map(|root| root.trace.clone()).unwrap_or_default();
        found = all.into_iter().filter(|span| span.trace == trace).collect();
        for name in names {
            anyhow::ensure!(found.iter().any(|span| span.name == *name), "no {name} in {found:#?}");
        }
        Ok(())
    })
    .await
    .unwrap();
    found
}

/// The only span with this name.
fn one<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let of_name: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(of_name.len(), 1, "{name}: {spans:#?}");
    of_name[0]
}

/// All bodies of messages and events from here on.
async fn tap(system: &System) -> lapin::Consumer {
    let connection = lapin::Connection::connect(&system.urls.amqp, Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, Default::default()).await.unwrap();
    let name = queue.name().clone();
    let prefix = system.amqp_prefix();
    let shards = (0..SHARDS).map(|shard| (format!("{prefix}.msg"), shard.to_string()));
    for (exchange, key) in shards.chain([(format!("{prefix}.push"), String::new())]) {
        let options = QueueBindOptions::default();
        channel
            .queue_bind(name.clone(), exchange.into(), key.into(), options, Default::default())
            .await
            .unwrap();
    }
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = channel.basic_consume(name, "".into(), options, Default::default()).await.unwrap();
    // The consumer keeps its channel, the connection is kept here.
    std::mem::forget(connection);
    consumer
}

/// The next two bodies with `text`: of the message, and of its event.
async fn bodies_with(tap: &mut lapin::Consumer, text: &str) -> [Vec<u8>; 2] {
    let mut found = Vec::new();
    while found.len() < 2 {
        let next = tokio::time::timeout(TIMEOUT, tap.next()).await.unwrap();
        let body = next.unwrap().unwrap().data;
        if contains(&body, text.as_bytes()) {
            found.push(body);
        }
    }
    found.try_into().unwrap()
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|part| part == text)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

const ALL: [&str; 8] = ["send", "number", "publish", "queue", "commit", "announce", "push", "socket"];

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_message_over_two_gateways_is_one_trace() {
    let collector = Collector::start(Answer::Ok).await;
    let system = system(&collector.endpoint(), 1.0, 2).await;
    let mut tap = tap(&system).await;
    let (mut alice, mut bob) = clients(&system).await;
    alice.say(CHAT, "m1", CONTENT).await.unwrap();
    bob.wait_for(|packet| packet.cmd == 5).await.unwrap();

    let spans = trace(&collector, "m1", &ALL).await;
    assert_eq!(spans.len(), ALL.len(), "{spans:#?}");
    let of = |name| one(&spans, name);
    assert_eq!(of("send").parent, [0_u8; 0], "a root");
    for (child, parent) in [
        ("number", "send"),
        ("publish", "send"),
        ("queue", "publish"),
        ("commit", "queue"),
        ("announce", "commit"),
        ("push", "announce"),
        ("socket", "push"),
    ] {
        assert_eq!(of(child).parent, of(parent).id, "{child} is a child of {parent}: {spans:#?}");
        assert!(of(child).start_ns >= of(parent).start_ns, "{child} begins after {parent}: {spans:#?}");
    }
    assert!(spans.iter().all(|span| span.end_ns >= span.start_ns && !span.is_error), "{spans:#?}");
    for name in ["queue", "commit", "announce"] {
        assert_eq!(of(name).service, "im-worker");
    }
    for name in ["send", "number", "publish", "push", "socket"] {
        assert_eq!(of(name).service, "im-gateway");
    }
    assert_eq!(of("publish").instance, of("send").instance);
    assert_eq!(of("socket").instance, of("push").instance);
    assert_ne!(of("push").instance, of("send").instance, "Bob is at the other gateway");
    let is = |name: &str, key: &str, value: &str| assert_eq!(one(&spans, name).attributes[key], value);
    is("send", "messaging.message.conversation_id", "private_alice bob");
    is("number", "db.system.name", "redis");
    is("publish", "messaging.system", "rabbitmq");
    is("commit", "db.system.name", "mysql");
    is("commit", "im.commit.verdict", "stored");
    is("queue", "im.redelivered", "false");
    is("push", "im.connections", "1");
    for body in collector.bodies() {
        assert!(!contains(&body, CONTENT.as_bytes()), "no content in a trace");
    }
    // The bodies name the trace, so that the next test proves something.
    let id = hex(&of("send").trace);
    for body in bodies_with(&mut tap, CONTENT).await {
        assert!(contains(&body, format!("00-{id}-").as_bytes()));
    }

    // A retry is in the same trace, and so is the refusal of another message.
    alice.say(CHAT, "m1", CONTENT).await.unwrap();
    wait_for("the retry", TIMEOUT, async || {
        let spans = trace(&collector, "m1", &ALL).await;
        let retried = |span: &&Span| span.attributes.get("im.message.retry").is_some_and(|it| it == "true");
        anyhow::ensure!(spans.iter().any(|span| retried(&span)), "{spans:#?}");
        let verdicts = |span: &Span| span.attributes.get("im.commit.verdict").cloned();
        anyhow::ensure!(spans.iter().filter_map(verdicts).any(|it| it == "duplicate"), "{spans:#?}");
        Ok(())
    })
    .await
    .unwrap();
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_delivered_again_after_a_kill_has_both_deliveries_in_its_trace() {
    let collector = Collector::start(Answer::Ok).await;
    let mut system = system(&collector.endpoint(), 1.0, 1).await;
    let (mut alice, mut bob) = clients(&system).await;
    alice.say(CHAT, "m1", "the first").await.unwrap();
    bob.wait_for(|packet| packet.cmd == 5).await.unwrap();

    // The worker has the message and cannot commit it.
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("SELECT last_seq FROM conversation FOR UPDATE").fetch_all(&mut *lock).await.unwrap();
    alice.say(CHAT, "m2", CONTENT).await.unwrap();
    let spans = trace(&collector, "m2", &["send", "queue"]).await;
    assert!(spans.iter().all(|span| span.name != "commit"), "{spans:#?}");
    system.worker(0).kill();
    lock.rollback().await.unwrap();
    system.worker(0).start_again().await.unwrap();
    bob.wait_for(|packet| packet.cmd == 5).await.unwrap();

    let spans = trace(&collector, "m2", &ALL).await;
    let publish = one(&spans, "publish");
    let mut deliveries: Vec<&Span> = spans.iter().filter(|span| span.name == "queue").collect();
    deliveries.sort_by_key(|span| span.end_ns);
    let [first, second] = deliveries[..] else { panic!("two deliveries: {spans:#?}") };
    assert!(deliveries.iter().all(|span| span.parent == publish.id), "{spans:#?}");
    let redelivered = |span: &Span| span.attributes["im.redelivered"].clone();
    assert_eq!((redelivered(first), redelivered(second)), ("false".to_owned(), "true".to_owned()));
    assert_ne!(first.instance, second.instance, "another run of the worker");
    let commit = one(&spans, "commit");
    assert_eq!((&commit.parent, &commit.attributes["im.commit.verdict"]), (&second.id, &"stored".to_owned()));
    assert_eq!(one(&spans, "push").parent, one(&spans, "announce").id);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_samples_nothing_is_exported_and_bodies_have_no_trace() {
    let collector = Collector::start(Answer::Ok).await;
    let mut system = system(&collector.endpoint(), 0.0, 1).await;
    let mut tap = tap(&system).await;
    let (mut alice, mut bob) = clients(&system).await;
    alice.say(CHAT, "m1", CONTENT).await.unwrap();
    bob.wait_for(|packet| packet.cmd == 5).await.unwrap();
    for body in bodies_with(&mut tap, CONTENT).await {
        // What a traceparent begins with; neither ids nor content have it.
        assert!(!contains(&body, b"00-"), "{body:?}");
    }
    // The stop exports what waits.
    for service in system.services() {
        assert!(service.terminate().await.is_some_and(|status| status.success()));
    }
    assert_eq!(collector.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_fails_delays_no_message_and_no_stop() {
    for answer in [None, Some(Answer::Unavailable), Some(Answer::Never)] {
        let endpoint = match answer {
            // A port on which nobody listens.
            None => "http://127.0.0.1:1".to_owned(),
            Some(answer) => Collector::start(answer).await.endpoint(),
        };
        let mut system = system(&endpoint, 1.0, 1).await;
        let (mut alice, mut bob) = clients(&system).await;
        for n in 0..50 {
            let begun = Instant::now();
            alice.say(CHAT, &format!("m{n}"), CONTENT).await.unwrap();
            bob.wait_for(|packet| packet.cmd == 5).await.unwrap();
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{answer:?}: message {n} took {:?}",
                begun.elapsed()
            );
        }
        let ops = system.ops_urls()[0].clone();
        wait_for("lost spans", TIMEOUT, async || {
            let lost = metric(&ops, r#"im_trace_spans_lost_total{reason="export"}"#).await?;
            anyhow::ensure!(lost >= 50.0, "{answer:?}: {lost} are lost");
            Ok(())
        })
        .await
        .unwrap();
        alice.say(CHAT, "last", CONTENT).await.unwrap();
        let log = std::fs::read_to_string(system.gateway(0).log()).unwrap();
        assert_eq!(log.matches("Cannot export traces").count(), 1, "{answer:?}: {log}");
        for service in system.services() {
            let begun = Instant::now();
            let status = service.terminate().await;
            assert!(
                status.is_some_and(|status| status.success()),
                "{answer:?}: {} ended with {status:?}",
                service.name()
            );
            assert!(begun.elapsed() < STOP_MAX, "{answer:?}: {} took {:?}", service.name(), begun.elapsed());
        }
    }
}

/// The log lines of all processes about this message, once there is one with each of `parts`.
async fn lines_about(system: &mut System, msg_id: &str, parts: &[&str]) -> Vec<Value> {
    let logs: Vec<_> = system.services().map(|service| service.log().to_owned()).collect();
    let mut found = Vec::new();
    wait_for("the log lines", TIMEOUT, async || {
        found.clear();
        for log in &logs {
            let text = std::fs::read_to_string(log)?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found.extend(lines.filter(|line| line["msg.id"] == msg_id));
        }
        for part in parts {
            let has = |line: &Value| line["message"].as_str().is_some_and(|it| it.contains(part));
            anyhow::ensure!(found.iter().any(has), "no \"{part}\" in {found:#?}");
        }
        Ok(())
    })
    .await
    .unwrap();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_about_a_sampled_message_carry_its_trace_id() {
    const LINES: [&str; 3] = ["message accepted", "Committed message m1", "is stored already"];
    let collector = Collector::start(Answer::Ok).await;
    for ratio in [1.0, 0.0] {
        let builder = builder(&collector.endpoint(), ratio, 1).set("IM__LOG__FORMAT", "json");
        let builder = builder.set("IM__LOG__FILTER", "info,gateway::send=debug,worker::commit=debug");
        let mut system = builder.for_test().await.unwrap();
        let (mut alice, mut bob) = clients(&system).await;
        alice.say(CHAT, "m1", CONTENT).await.unwrap();
        bob.wait_for(|packet| packet.cmd == 5).await.unwrap();
        // A retry, whose lines name the same trace.
        alice.say(CHAT, "m1", CONTENT).await.unwrap();
        let lines = lines_about(&mut system, "m1", &LINES).await;
        let expected = match ratio {
            0.0 => Value::Null,
            _ => hex(&one_send(&collector, "m1").await.trace).into(),
        };
        for line in &lines {
            assert_eq!(line["trace_id"], expected, "{line}");
        }
        assert!(lines.iter().all(|line| !line.to_string().contains(CONTENT)), "{lines:#?}");
        system.stop().await;
    }
}

/// A span of the sending of this message.
async fn one_send(collector: &Collector, msg_id: &str) -> Span {
    let spans = trace(collector, msg_id, &["send"]).await;
    spans.into_iter().find(|span| span.name == "send").unwrap()
}
