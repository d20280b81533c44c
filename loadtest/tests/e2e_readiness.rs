//! A process is ready if and only if it would serve: stores that are stopped, full, read-only or robbed of their queues.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Channel, Connection, ConnectionProperties};
use testbed::client::{Client, Credentials};
use testbed::stack::{Builder, Service, System, wait_for};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until the process is not ready because of a check whose line begins with `check`.
async fn not_ready(service: &mut Service, check: &str) {
    wait_for(check, TIMEOUT, async || {
        let answer = reqwest::get(format!("{}/readyz", service.ops_url())).await?;
        let (is_ready, text) = (answer.status().is_success(), answer.text().await?);
        anyhow::ensure!(!is_ready && text.lines().any(|line| line.starts_with(check)), "{text}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn all_ready(system: &mut System) {
    for service in system.services() {
        service.ready(TIMEOUT).await.unwrap();
    }
}

/// Sends messages through the first gateway until one is pushed by the last one. A push that is lost is replaced by a
/// resync.
async fn serves(system: &System, msg_id: &str) {
    let urls = system.ws_urls();
    let mut bob = Client::connect(urls.last().unwrap(), "bob").await.unwrap();
    bob.request(0, r#"{"cmd":0}"#).await.unwrap();
    let mut alice = Client::connect(&urls[0], "alice").await.unwrap();
    let mut attempt = 0;
    wait_for("a push", TIMEOUT, async || {
        attempt += 1;
        let msg_id = format!("{msg_id}_{attempt}");
        alice.say("private_alice_bob", &msg_id, "hello").await?;
        let pushed = bob.wait_for(|packet| packet.cmd == 5 && packet.payload.to_string().contains(&msg_id));
        tokio::time::timeout(Duration::from_secs(2), pushed).await??;
        Ok(())
    })
    .await
    .unwrap();
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_message_all_processes_become_ready_again_after_each_server_was_stopped() {
    // With one shard, one of two workers has none.
    let builder = Builder::new().set("IM__SHARDS__COUNT", 1);
    let mut system = builder.on_own_servers().await.unwrap();
    for _ in 0..2 {
        system.servers().unwrap().rabbit.kill();
        for service in system.services() {
            not_ready(service, "rabbitmq").await;
        }
        system.servers().unwrap().rabbit.start_again().await.unwrap();
        all_ready(&mut system).await;
    }
    system.servers().unwrap().mysql.kill();
    for service in system.services() {
        not_ready(service, "mysql").await;
    }
    system.servers().unwrap().mysql.start_again().await.unwrap();
    all_ready(&mut system).await;
    system.redis().unwrap().kill();
    for service in system.services() {
        not_ready(service, "redis").await;
    }
    system.redis().unwrap().start_again().await.unwrap();
    all_ready(&mut system).await;
    serves(&system, "after_all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_no_writes_makes_all_processes_not_ready() {
    let mut system = Builder::new().for_test().await.unwrap();
    for (broken, repaired) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ] {
        system.redis().unwrap().command(&broken).await.unwrap();
        for service in system.services() {
            not_ready(service, "redis").await;
        }
        system.redis().unwrap().command(&repaired).await.unwrap();
        all_ready(&mut system).await;
    }
    system.redis().unwrap().command(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    for service in system.services() {
        not_ready(service, "redis").await;
    }
    system.redis().unwrap().command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    all_ready(&mut system).await;
    serves(&system, "after_all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_and_queues_that_are_deleted_are_declared_again() {
    let mut system = Builder::new().set("IM__SHARDS__COUNT", 2).for_test().await.unwrap();
    serves(&system, "before").await;
    let (prefix, url) = (system.amqp_prefix().to_owned(), system.urls.amqp.clone());
    let (_connection, channel) = channel(&url).await;
    let exists = async |name: &str| {
        let (_connection, channel) = self::channel(&url).await;
        let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(name.into(), passive, Default::default()).await.is_ok()
    };
    for (n, name) in ["msg", "push", "dead"].into_iter().enumerate() {
        let exchange = format!("{prefix}.{name}");
        channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
        tokio::time::timeout(TIMEOUT, serves(&system, &format!("exchange{n}"))).await.unwrap();
    }
    for (n, name) in ["msg.0", "msg.1", "dead"].into_iter().enumerate() {
        let queue = format!("{prefix}.{name}");
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        wait_for(&queue, TIMEOUT, async || {
            anyhow::ensure!(exists(&queue).await, "it is missing");
            Ok(())
        })
        .await
        .unwrap();
        // Conversations of both shards.
        for group in 0..4 {
            let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
            alice.say(&format!("group_{group}"), &format!("queue{n}"), "hello").await.unwrap();
            wait_for("the message", TIMEOUT, async || {
                let all = alice.pull_all(&format!("group_{group}"), 0).await?;
                anyhow::ensure!(all.iter().any(|message| message.msg_id == format!("queue{n}")), "{all:?}");
                Ok(())
            })
            .await
            .unwrap();
        }
    }
    all_ready(&mut system).await;
    serves(&system, "after_all").await;
}

/// Everything is logged, by libraries too.
const LOG_FILTER: &str = "IM__LOG__FILTER";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_or_an_unread_pipe_for_logs_stops_no_process() {
    let mut system = Builder::new().set(LOG_FILTER, "trace").for_test().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Held open, and never read.
    let _reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    for log in [std::path::Path::new("/dev/full"), &pipe] {
        for service in system.services() {
            assert!(
                service.terminate().await.is_some_and(|status| status.success()),
                "{} was killed",
                service.name()
            );
            service.log_to(log);
            service.start_again().await.unwrap();
        }
        let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
        // More lines than a pipe holds (64 KiB), for each of eight shards.
        for n in 0..40 {
            for group in 0..16 {
                alice.say(&format!("group_{group}"), &format!("m{n}"), "hello").await.unwrap();
            }
        }
        serves(&system, "after_all").await;
        for service in system.services() {
            let metrics =
                reqwest::get(format!("{}/metrics", service.ops_url())).await.unwrap().text().await.unwrap();
            let lost = metrics.lines().find_map(|line| line.strip_prefix("im_log_lines_lost_total "));
            if log != pipe {
                assert!(lost.is_some_and(|lost| lost != "0"), "{}: {lost:?}", service.name());
            }
        }
        all_ready(&mut system).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_level_of_logs_shows_contents_or_tokens() {
    const CONTENT: &str = "a content that nobody may see";
    let mut system = Builder::new().set(LOG_FILTER, "trace").for_test().await.unwrap();
    let key = system.operator_key().to_owned();
    let credentials = Credentials::operator(&system.http_urls()[0], &key);
    let token = credentials.token("carol").await.unwrap().unwrap();
    let mut carol = Client::connect_with(&credentials, &system.ws_urls()[0], "carol").await.unwrap();
    let mut alice = Client::connect(&system.ws_urls()[1], "alice").await.unwrap();
    for n in 0..5 {
        alice.say("private_alice_carol", &format!("m{n}"), CONTENT).await.unwrap();
        carol.wait_for(|packet| packet.cmd == 5).await.unwrap();
    }
    carol.pull_all("private_alice_carol", 0).await.unwrap();
    for service in system.services() {
        let log = service.log().to_owned();
        assert!(service.terminate().await.is_some());
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("DEBUG"), "{}: the level has an effect", service.name());
        for secret in [CONTENT, token.as_str(), token.rsplit('.').next().unwrap(), &key] {
            assert!(!log.contains(secret), "{}: {secret:?} is in the log", service.name());
        }
    }
}
