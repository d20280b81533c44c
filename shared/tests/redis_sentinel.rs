//! Sequence numbers from Redis behind Sentinel, whose master falls silent.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shared::config;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::message::fixture;
use shared::redis;
use shared::redis::sequence::{Floor, NumberRequest, Numbers, Sequence};
use testbed::stack::{RedisSentinel, TemporaryFolder, wait_for};

/// Sentinel takes 3 s to give the master up, and some to elect a leader and a new master.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(20);

async fn number(sequence: &Sequence, id: &str) -> anyhow::Result<()> {
    let conversation = Conversation::from_key("group_1").unwrap();
    let (user, id) = (UserId::parse("alice").unwrap(), MsgId::parse(id).unwrap());
    let request = NumberRequest {
        conversation: &conversation,
        messages: vec![(&user, &id, fixture::text("x").fingerprint())],
        floor: Some(Floor { last: Seq::ZERO, jump: false }),
    };
    let numbered = sequence.next(&[request]).await;
    anyhow::ensure!(matches!(numbered[..], [Ok(Numbers::Assigned { .. })]), "{numbered:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_master_and_a_silent_sentinel_are_left() {
    let folder = TemporaryFolder::new().unwrap();
    let (servers, sentinels) = RedisSentinel::start_all(folder.path()).await.unwrap();
    let url = RedisSentinel::url(&sentinels);
    let settings = config::Redis { url: url.as_str().into(), ..Default::default() };
    let client = redis::connect(&settings, Duration::from_secs(30)).await.unwrap();
    let sequence = Sequence::new(client, 60);
    number(&sequence, "before").await.unwrap();

    // One host with both, the Sentinel at the head of the address. Connections to them stay open.
    servers[0].process().unwrap().signal(Signal::SIGSTOP);
    sentinels[0].process().signal(Signal::SIGSTOP);
    let silent = Instant::now();
    wait_for("another master", FAILOVER_TIMEOUT, async || number(&sequence, "after").await).await.unwrap();
    println!("numbers again after {:?}", silent.elapsed());

    // A process that starts now finds the new master too.
    let client = redis::connect(&settings, Duration::from_secs(30)).await.unwrap();
    number(&Sequence::new(client, 60), "new").await.unwrap();
}
