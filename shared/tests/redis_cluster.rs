//! Sequence numbers from a real Redis Cluster whose masters are lost, and whose slots move.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shared::config;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UserId};
use shared::message::fixture;
use shared::redis;
use shared::redis::sequence::{AssignedNumber, Floor, NumberRequest, Numbers, Sequence};
use testbed::stack::{RedisCluster, TemporaryFolder, wait_for};

/// Longer than an election, and much less than the master is away.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest that a conversation of a healthy server may wait while another server is lost.
const HEALTHY_MAX: Duration = Duration::from_secs(1);
/// Enough for each master to have some.
const GROUPS: u32 = 60;

fn groups() -> Vec<Conversation> {
    (0..GROUPS).map(|n| Conversation::from_key(&format!("group_{n}")).unwrap()).collect()
}

async fn sequence(cluster: &RedisCluster) -> Sequence {
    let url = cluster.url_of(0);
    let settings =
        config::Redis { url: url.as_str().into(), command_timeout_ms: 3_000, ..Default::default() };
    Sequence::new(redis::connect(&settings, Duration::from_secs(30)).await.unwrap(), 60)
}

/// Numbers one message of each of `groups` with one call; the number of each that has one.
async fn number(sequence: &Sequence, groups: &[Conversation], id: &str) -> Vec<Option<u64>> {
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
    let seq = |numbers: &Numbers| match numbers {
        Numbers::Assigned { numbers, .. } => match numbers[..] {
            [AssignedNumber::New(seq) | AssignedNumber::Known(seq, _)] => seq.0,
            _ => panic!("one number for one message, not {numbers:?}"),
        },
        Numbers::NoCounter => panic!("the counter is made where it is missing"),
    };
    numbered.iter().map(|numbers| numbers.as_ref().ok().map(seq)).collect()
}

/// What a stream of calls saw while something happened to the cluster.
struct Stream {
    stop: Arc<AtomicBool>,
    calls: tokio::task::JoinHandle<Seen>,
}

struct Seen {
    /// The longest time without a number, by group.
    silence: Vec<Duration>,
    calls: u64,
    refused: u64,
}

impl Stream {
    /// Numbers one message of each group again and again. A message without a number is tried again, with the same id.
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    fn start(sequence: Sequence) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let calls = tokio::spawn(async move {
            let groups = groups();
            let mut seen = Seen { silence: vec![Duration::ZERO; groups.len()], calls: 0, refused: 0 };
            let (mut last, mut next) = (vec![Instant::now(); groups.len()], vec![0_u64; groups.len()]);
            while !stopped.load(Ordering::Relaxed) {
                let id = format!("m{}", seen.calls);
                let mut wanted: Vec<usize> = (0..groups.len()).collect();
                while !wanted.is_empty() && !stopped.load(Ordering::Relaxed) {
                    let some: Vec<Conversation> = wanted.iter().map(|n| groups[*n].clone()).collect();
                    let numbers = number(&sequence, &some, &id).await;
                    let mut refused = Vec::new();
                    for (n, number) in wanted.into_iter().zip(numbers) {
                        let now = Instant::now();
                        match number {
                            Some(number) => {
                                assert_eq!(
                                    number,
                                    next[n] + 1,
                                    "{} got the number of another call",
                                    groups[n]
                                );
                                next[n] = number;
                                seen.silence[n] = seen.silence[n].max(now - last[n]);
                                last[n] = now;
                            }
                            None => refused.push(n),
                        }
                    }
                    seen.refused += refused.len() as u64;
                    wanted = refused;
                    if !wanted.is_empty() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                seen.calls += 1;
            }
            seen
        });
        Self { stop, calls }
    }

    async fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_in_the_address_may_be_lost() {
    let folder = TemporaryFolder::new().unwrap();
    let mut cluster = RedisCluster::start(folder.path()).await.unwrap();
    let (sequence, groups) = (sequence(&cluster).await, groups());
    assert!(number(&sequence, &groups, "before").await.iter().all(Option::is_some));

    cluster.node(0).kill();
    let killed = Instant::now();
    wait_for("the replica of the killed master", FAILOVER_TIMEOUT, async || {
        let numbered = number(&sequence, &groups, "after").await;
        anyhow::ensure!(numbered.iter().all(Option::is_some), "{numbered:?}");
        Ok(())
    })
    .await
    .unwrap();
    println!("all conversations have numbers again after {:?}", killed.elapsed());
}

/// Numbers a message of each group every 20 ms, each group by itself, until `until`. Returns the longest time without a
/// number, by group.
async fn silence_of_each(sequence: &Sequence, until: Instant) -> Vec<Duration> {
    static ID: AtomicU64 = AtomicU64::new(0);
    let groups = groups();
    let (mut last, mut longest) = (vec![Instant::now(); groups.len()], vec![Duration::ZERO; groups.len()]);
    while Instant::now() < until {
        let id = format!("s{}", ID.fetch_add(1, Ordering::Relaxed));
        let numbers = number(sequence, &groups, &id).await;
        let now = Instant::now();
        for (n, number) in numbers.into_iter().enumerate() {
            longest[n] = longest[n].max(now - last[n]);
            if number.is_some() {
                last[n] = now;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    longest
}

async fn conversations_of_other_servers_go_on(signal: Signal) {
    let folder = TemporaryFolder::new().unwrap();
    let mut cluster = RedisCluster::start(folder.path()).await.unwrap();
    let sequence = sequence(&cluster).await;
    silence_of_each(&sequence, Instant::now() + Duration::from_millis(200)).await;
    cluster.node(1).process().unwrap().signal(signal);
    let silence = silence_of_each(&sequence, Instant::now() + Duration::from_secs(9)).await;
    let (longest, healthy): (Vec<Duration>, Vec<Duration>) = silence.iter().partition(|s| **s > HEALTHY_MAX);
    println!("{signal}: of lost server {longest:?}\nof others {healthy:?}");
    assert!(!longest.is_empty(), "nothing was lost: {silence:?}");
    assert!(longest.len() < silence.len() / 2, "others waited too: {silence:?}");
    assert!(longest.iter().all(|silence| *silence < Duration::from_secs(8)), "no failover: {silence:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_of_other_servers_go_on_while_a_master_is_killed() {
    conversations_of_other_servers_go_on(Signal::SIGKILL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_of_other_servers_go_on_while_a_master_is_silent() {
    conversations_of_other_servers_go_on(Signal::SIGSTOP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_conversation_keeps_its_own_numbers_while_its_slot_moves() {
    let folder = TemporaryFolder::new().unwrap();
    let cluster = RedisCluster::start(folder.path()).await.unwrap();
    let sequence = sequence(&cluster).await;
    let stream = Stream::start(sequence.clone());
    cluster.move_slots(0, 1, 1_500).await.unwrap();
    let Seen { silence, calls, refused } = stream.finish().await;
    let distinct: BTreeSet<Duration> = silence.into_iter().collect();
    println!("{calls} calls, {refused} messages refused at first, longest silence {:?}", distinct.last());
    assert!(calls > 50, "{calls}");
    assert!(*distinct.last().unwrap() < Duration::from_secs(3), "{distinct:?}");
}
