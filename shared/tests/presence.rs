//! Presence entries in a real Redis, and in a Redis Cluster.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fred::interfaces::{ClientLike as _, HashesInterface as _};
use shared::config;
use shared::ids::UserId;
use shared::redis;
use shared::redis::presence::{AllPresence, Presence};
use shared::targeted_push::{Found, Records, Write};
use testbed::stack::{RedisCluster, Stores, TemporaryFolder};

async fn connect(url: &str) -> redis::Client {
    let settings = config::Redis { url: url.into(), command_timeout_ms: 3_000, ..Default::default() };
    redis::connect(&settings, Duration::from_secs(30)).await.unwrap()
}

fn users(count: usize) -> Vec<UserId> {
    (0..count).map(|n| UserId::parse(&format!("user{n}")).unwrap()).collect()
}

/// What a gateway records about these users, which are all connected to it or all gone, in the order of its calls.
struct Gateway {
    presence: Presence,
    records: Records<()>,
}

impl Gateway {
    fn new(client: &redis::Client, id: u64) -> Self {
        let records = Records::new(Duration::from_secs(3_600), Instant::now());
        Self { presence: Presence::new(client.clone(), id), records }
    }

    fn write(&mut self, users: &[UserId]) -> Write<()> {
        users.iter().for_each(|user| self.records.changed(user.clone(), None));
        self.records.next_write(users.len())
    }

    async fn record(&mut self, users: &[UserId], is_here: bool) -> Option<u64> {
        let write = self.write(users);
        self.presence.record(&write, &vec![is_here; users.len()]).await.unwrap()
    }
}

fn sorted(mut found: Vec<Found>) -> Vec<Vec<u64>> {
    found.iter_mut().for_each(|found| found.gateways.sort_unstable());
    found.into_iter().map(|found| found.gateways).collect()
}

#[tokio::test]
async fn users_are_found_at_the_gateways_that_recorded_them_last() {
    let stores = Stores::for_test().await.unwrap();
    let client = connect(&stores.redis_url).await;
    let (mut one, mut two) = (Gateway::new(&client, 1), Gateway::new(&client, 2));
    let all = AllPresence::new(client.clone());
    // More than one call.
    let users = users(250);
    one.record(&users, true).await;
    two.record(&users[..2], true).await;
    let found = all.find(&users).await.unwrap();
    let runs = one.presence.runs().await.unwrap();
    assert!(found.iter().all(|found| runs.contains(&found.run) && !found.at_earlier_version), "{found:?}");
    let mut expected = vec![vec![1]; 250];
    expected[..2].fill(vec![1, 2]);
    assert_eq!(sorted(found), expected);
    one.record(&users[1..2], false).await;
    assert_eq!(sorted(all.find(&users[..2]).await.unwrap()), [vec![1, 2], vec![2]]);
    let late = one.write(&users[1..2]);
    one.record(&users[1..2], true).await;
    one.presence.record(&late, &[false]).await.unwrap();
    assert_eq!(sorted(all.find(&users[1..2]).await.unwrap()), [vec![1, 2]], "a removal that came late");
    assert_eq!(one.presence.gateways_of(&users[2..3]).await.unwrap(), [vec![1]]);
}

#[tokio::test]
async fn only_the_begin_of_a_pass_makes_the_mark() {
    let stores = Stores::for_test().await.unwrap();
    let client = connect(&stores.redis_url).await;
    let (mut gateway, users) = (Gateway::new(&client, 1), users(3));
    assert_eq!(gateway.record(&users, true).await, None);
    assert_eq!(gateway.record(&users, true).await, None);
    gateway.records.checked(None, || users.clone(), Instant::now());
    let begin = gateway.records.next_write(2);
    assert_eq!(gateway.presence.record(&begin, &[true, true]).await.unwrap(), None);
    assert_eq!(gateway.record(&users, true).await, Some(begin.revision));
    let again = gateway.records.next_write(2);
    assert_eq!(gateway.presence.record(&again, &[true]).await.unwrap(), Some(begin.revision));
    assert_eq!(gateway.record(&users, true).await, Some(again.revision));
}

#[tokio::test]
async fn a_gateway_of_an_earlier_version_is_recognized_by_its_entries() {
    let stores = Stores::for_test().await.unwrap();
    let client = connect(&stores.redis_url).await;
    let raw =
        fred::prelude::Builder::from_config(fred::prelude::Config::from_url(&stores.redis_url).unwrap());
    let raw = raw.build().unwrap();
    raw.init().await.unwrap();
    let user = users(1);
    // What that version writes.
    let _: () = raw.hset("im:online:{user0}", ("00000000000000aa", 1)).await.unwrap();
    Gateway::new(&client, 1).record(&user, true).await;
    let found = AllPresence::new(client.clone()).find(&user).await.unwrap();
    assert!(found[0].at_earlier_version);
    assert_eq!(sorted(found), [vec![1, 0xaa]]);
    assert_eq!(Presence::new(client, 1).gateways_of(&user).await.unwrap()[0].len(), 2);
}

#[tokio::test]
async fn runs_are_announced_and_read() {
    let stores = Stores::for_test().await.unwrap();
    let client = connect(&stores.redis_url).await;
    let (one, all) = (Presence::new(client.clone(), 1), AllPresence::new(client));
    assert_eq!(all.announced_by(&[1, 2]).await.unwrap(), [None, None]);
    for runs in [BTreeSet::new(), BTreeSet::from(["a".to_owned(), "b".to_owned()])] {
        one.announce_complete(&runs).await.unwrap();
        assert_eq!(all.announced_by(&[1, 2]).await.unwrap(), [Some(runs), None]);
    }
    assert_eq!(one.runs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn users_at_all_servers_of_a_cluster_are_found_with_their_runs() {
    let folder = TemporaryFolder::new().unwrap();
    let cluster = RedisCluster::start(folder.path()).await.unwrap();
    let client = connect(&cluster.url_of(0)).await;
    let (mut gateway, users) = (Gateway::new(&client, 5), users(60));
    gateway.record(&users, true).await;
    let found = AllPresence::new(client).find(&users).await.unwrap();
    let runs: BTreeSet<String> = found.iter().map(|found| found.run.clone()).collect();
    assert_eq!(runs.len(), 3, "three masters");
    assert_eq!(gateway.presence.runs().await.unwrap(), runs);
    assert_eq!(sorted(found), vec![vec![5]; 60]);
}
