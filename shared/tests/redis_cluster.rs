//! Sequence numbers from a real Redis Cluster whose masters are killed.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::{Duration, Instant};

use shared::config;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::message::fixture;
use shared::redis;
use shared::redis::sequence::{Floor, NumberRequest, Numbers, Sequence};
use testbed::stack::{RedisCluster, TemporaryFolder, wait_for};

/// Longer than an election, and much less than the master is away.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(15);

/// Numbers one message of each of `groups`; which of them have one.
async fn number(sequence: &Sequence, groups: &[Conversation], id: &str) -> Vec<bool> {
    let (user, id) = (UserId::parse("alice").unwrap(), MsgId::parse(id).unwrap());
    let requests: Vec<NumberRequest<'_>> = groups
        .iter()
        .map(|conversation| NumberRequest {
            conversation,
            messages: vec![(&user, &id, fixture::text("x").fingerprint())],
            floor: Some(Floor { last: Seq::ZERO, jump: false }),
        })
        .collect();
    let numbered = sequence.next(&requests).await;
    numbered.iter().map(|numbers| matches!(numbers, Ok(Numbers::Assigned { .. }))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_in_the_address_may_be_lost() {
    let folder = TemporaryFolder::new().unwrap();
    let mut cluster = RedisCluster::start(folder.path()).await.unwrap();
    let settings = config::Redis {
        url: cluster.url_of(0).as_str().into(),
        command_timeout_ms: 1_000,
        ..Default::default()
    };
    let client = redis::connect(&settings, Duration::from_secs(30)).await.unwrap();
    let sequence = Sequence::new(client, 60);
    // Enough for each master to have some.
    let groups: Vec<Conversation> =
        (0..30).map(|n| Conversation::from_key(&format!("group_{n}")).unwrap()).collect();
    assert!(number(&sequence, &groups, "before").await.into_iter().all(|is_numbered| is_numbered));

    cluster.node(0).kill();
    let killed = Instant::now();
    wait_for("the replica of the killed master", FAILOVER_TIMEOUT, async || {
        let numbered = number(&sequence, &groups, "after").await;
        anyhow::ensure!(numbered.iter().all(|is_numbered| *is_numbered), "{numbered:?}");
        Ok(())
    })
    .await
    .unwrap();
    println!("all conversations have numbers again after {:?}", killed.elapsed());
}
