//! Workers that join, leave and die.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::support::{Ends, eventually, group, message};
use shared::conversation::Conversation;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use worker::app::App;
use worker::config::Config;

/// Enough for each shard to have some.
fn conversations() -> Vec<Conversation> {
    (0..24).map(|n| group(&format!("group_{n}"))).collect()
}

pub(crate) async fn publish_to_all(ends: &Ends, seq: u64) {
    for chat in conversations() {
        ends.publish(&[message(&chat, seq, "alice", &format!("m{seq}"))]).await;
    }
}

/// Waits until each conversation has the messages 1 to `last`.
pub(crate) async fn expect_everywhere(ends: &Ends, last: u64) {
    for chat in conversations() {
        let ids: Vec<String> = (1..=last).map(|seq| format!("m{seq}")).collect();
        let expected: Vec<(u64, &str)> = (1..).zip(ids.iter().map(String::as_str)).collect();
        ends.expect_timeline(&chat, &expected).await;
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The shards that this worker consumes.
fn shards_of(app: &App) -> BTreeSet<u32> {
    app.shards().iter().map(|shard| shard.0).collect()
}

#[tokio::test]
async fn two_workers_have_half_of_the_shards_each_and_the_remaining_one_takes_over() {
    let ends = Ends::new().await;
    let first = ends.start_worker().await;
    assert_eq!(shards_of(&first).len(), 4);
    publish_to_all(&ends, 1).await;
    expect_everywhere(&ends, 1).await;
    assert!(get(first.ops_address(), "/readyz").await.starts_with("HTTP/1.1 200"));

    let second = ends.start_worker().await;
    eventually("the shards divided", async || {
        let (one, other) = (shards_of(&first), shards_of(&second));
        if one.is_disjoint(&other) && one.len() == 2 && other.len() == 2 { Ok(()) } else { Err((one, other)) }
    })
    .await;
    publish_to_all(&ends, 2).await;
    expect_everywhere(&ends, 2).await;

    assert!(first.stop().await);
    publish_to_all(&ends, 3).await;
    expect_everywhere(&ends, 3).await;
    eventually("all shards owned by the remaining worker", async || {
        let left = shards_of(&second);
        if left.len() == 4 { Ok(()) } else { Err(left) }
    })
    .await;
    assert!(second.stop().await);
}

/// Starts a worker on a runtime of its own, which the test can shut down to stop it at any step.
fn start_to_die(settings: &Config) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings = settings.clone();
    runtime.spawn(async move {
        let _app = App::start(settings).await.unwrap();
        std::future::pending::<()>().await;
    });
    runtime
}

#[tokio::test]
async fn a_worker_that_dies_loses_and_duplicates_no_message() {
    let ends = Ends::new().await;
    let chat = group("group_1");
    for seed in 0..3_u64 {
        let dying = start_to_die(&ends.settings);
        let begin = seed * 3_000;
        for body in 0..150 {
            let first = begin + body * 20 + 1;
            let body: Vec<_> =
                (first..first + 20).map(|seq| message(&chat, seq, "alice", &format!("m{seq}"))).collect();
            ends.publish(&body).await;
        }
        eventually("some of it stored", async || {
            let stored = ends.timeline(&chat).await.map_or(0, |rows| rows.len() as u64);
            if stored > begin { Ok(()) } else { Err(stored) }
        })
        .await;
        dying.shutdown_background();
    }
    let worker = ends.start_worker().await;
    let expected: Vec<(u64, String)> = (1..=9_000).map(|seq| (seq, format!("m{seq}"))).collect();
    eventually("everything in order", async || {
        let stored = ends.timeline(&chat).await.unwrap_or_default();
        if stored == expected { Ok(()) } else { Err(stored.len()) }
    })
    .await;
    assert!(worker.stop().await);
}
