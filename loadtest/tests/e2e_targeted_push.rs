//! Targeted push with eight gateways: every connected client gets every message, although no gateway gets all events.
//!
//! Readers pull only after a login, after a resync, and when a push shows a gap. So the last message of a round, which no later
//! one makes visible, reaches a reader by a push or not at all.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use testbed::client::{Client, Packet, Reader, Reading};
use testbed::meter::metric;
use testbed::stack::{Builder, End, System, wait_for};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const GATEWAYS: usize = 8;
const CHATS: usize = 20;
const GROUPS: usize = 4;
const GROUP_MEMBERS: usize = 5;
/// How long readers move and messages are sent in a round, in milliseconds.
const ROUND_MS: u64 = 1_200;
/// How long a reader that moves stays at a gateway, in milliseconds.
const STAY_MS: std::ops::Range<u64> = 30..500;
/// For all readers to have all messages of a round, the time of a reconnect included.
const ARRIVAL: Duration = Duration::from_secs(20);
/// For events to go to some gateways: ten seconds after Redis was first seen, and what gateways need before.
const TARGETED: Duration = Duration::from_secs(60);
const SOME: &str = r#"im_push_events_published_total{to="some"}"#;

/// A conversation and its readers, who are all its members.
struct Chat {
    name: String,
    sender: String,
    readers: Vec<(String, Arc<Reading>)>,
}

/// All readers, which move from gateway to gateway while they are told to.
struct Readers {
    chats: Vec<Chat>,
    moving: watch::Sender<bool>,
    tasks: JoinSet<Reader>,
    stop: CancellationToken,
}

impl Readers {
    async fn start(system: &System) -> Self {
        let (moving, stop) = (watch::Sender::new(false), CancellationToken::new());
        let mut readers = Self { chats: Vec::new(), moving, tasks: JoinSet::new(), stop };
        let chats =
            (0..CHATS).map(|n| (format!("private_a{n}_b{n}"), vec![format!("a{n}"), format!("b{n}")]));
        let groups = (0..GROUPS).map(|n| {
            (format!("group_{n}"), (0..GROUP_MEMBERS).map(|member| format!("m{n}-{member}")).collect())
        });
        let gateways = system.ws_urls();
        for (number, (name, users)) in chats.chain(groups).enumerate() {
            let sender = users[0].clone();
            let mut chat = Chat { name: name.clone(), sender, readers: Vec::new() };
            for (n, user) in users.into_iter().enumerate() {
                // Members before the first message.
                Client::connect(&gateways[n], &user).await.unwrap().pull(&name, 0, 1).await.unwrap();
                let mut order = gateways.clone();
                order.rotate_left((number + n * 3) % GATEWAYS);
                let reader = Reader::new(user.clone(), name.clone(), order);
                chat.readers.push((user, Arc::clone(&reader.reading)));
                readers.tasks.spawn(wander(reader, readers.moving.subscribe(), readers.stop.clone()));
            }
            readers.chats.push(chat);
        }
        readers
    }

    /// Sends a message into each conversation while all readers move, and `meanwhile` happens. Then they stay where they are, and
    /// all of them get everything.
    async fn round(&self, gateways: &[String], name: &str, meanwhile: impl Future<Output = ()>) {
        self.moving.send_replace(true);
        let sending = self.chats.iter().map(|chat| async move {
            let wait = rand::rng().random_range(0..ROUND_MS);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            say(gateways, &chat.sender, &chat.name, name).await;
        });
        let moving = tokio::time::sleep(Duration::from_millis(ROUND_MS));
        tokio::join!(futures_util::future::join_all(sending), meanwhile, moving);
        self.moving.send_replace(false);
        self.all_have_everything(gateways, name).await;
    }

    async fn all_have_everything(&self, gateways: &[String], name: &str) {
        let mut heads = Vec::new();
        for chat in &self.chats {
            let mut head = 0;
            let stored = wait_for("the message of this round", ARRIVAL, async || {
                let stored = connect(gateways, &chat.sender).await?.pull_all(&chat.name, 0).await?;
                anyhow::ensure!(stored.iter().any(|message| message.msg_id == *name), "it is not stored");
                head = stored.last().map_or(0, |message| message.seq);
                Ok(())
            });
            stored.await.unwrap();
            heads.push(head);
        }
        let arrived = wait_for(name, ARRIVAL, async || {
            let with_heads = self.chats.iter().zip(&heads);
            let behind: Vec<String> = with_heads
                .flat_map(|(chat, head)| chat.readers.iter().map(move |reader| (reader, chat, *head)))
                .filter(|((_, reading), _, head)| reading.cursor() < *head)
                .map(|((user, reading), chat, head)| {
                    format!("{user} has {} of {head} in {}", reading.cursor(), chat.name)
                })
                .collect();
            anyhow::ensure!(behind.is_empty(), "{behind:?}");
            Ok(())
        });
        arrived.await.unwrap();
    }

    async fn finish(mut self) -> Vec<Reader> {
        self.stop.cancel();
        let mut readers = Vec::new();
        while let Some(reader) = self.tasks.join_next().await {
            readers.push(reader.unwrap());
        }
        readers
    }
}

/// Follows until the stop; while it moves, at one gateway after the other.
async fn wander(mut reader: Reader, mut moving: watch::Receiver<bool>, stop: CancellationToken) -> Reader {
    while !stop.is_cancelled() {
        let stay = async {
            if *moving.borrow_and_update() {
                let stay = rand::rng().random_range(STAY_MS);
                tokio::time::sleep(Duration::from_millis(stay)).await;
            } else {
                let _ = moving.changed().await;
            }
        };
        tokio::select! {
            () = reader.run(stop.clone()) => {}
            () = stay => reader.turn(),
        }
    }
    reader
}

/// A connection of `user` to any gateway.
async fn connect(gateways: &[String], user: &str) -> anyhow::Result<Client> {
    Client::connect(gateways.choose(&mut rand::rng()).unwrap(), user).await
}

async fn say(gateways: &[String], user: &str, conversation: &str, msg_id: &str) {
    wait_for("an answer", ARRIVAL, async || {
        connect(gateways, user).await?.say(conversation, msg_id, "hello").await.map(drop)
    })
    .await
    .unwrap();
}

/// Events that went to some gateways so far.
async fn targeted(system: &mut System) -> f64 {
    let mut sum = 0.0;
    for n in 0..system.worker_count() {
        // A worker that was killed counts again from 0, and one that has not published to some gateways has no such count.
        sum += metric(&system.worker(n).ops_url(), SOME).await.unwrap_or_default();
    }
    sum
}

/// Sends messages of `user` until their events go to some gateways.
async fn until_targeted(system: &mut System, user: &str, conversation: &str) {
    let (before, gateways) = (targeted(system).await, system.ws_urls());
    wait_for("events that go to some gateways", TARGETED, async || {
        let id = format!("targeted-{}", rand::random::<u32>());
        say(&gateways, user, conversation, &id).await;
        anyhow::ensure!(targeted(system).await > before, "all events went to all gateways");
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits for a push or a resync.
async fn is_told(client: &mut Client) {
    let is_told = |packet: &Packet| packet.cmd == 5 || packet.event() == Some("resync");
    tokio::time::timeout(ARRIVAL, client.wait_for(is_told)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_an_entry_in_redis_gets_a_resync() {
    let mut system = Builder::new().gateways(4).unlimited().linked().on_own_servers().await.unwrap();
    let gateways = system.ws_urls();
    until_targeted(&mut system, "dave", "private_dave_erin").await;

    // Her gateway cannot reach Redis, which her login waits for in vain.
    let link = system.link(End::Gateway(0), End::Redis).unwrap();
    link.cut();
    let mut alice = Client::connect(&gateways[0], "alice").await.unwrap();
    alice.request(0, r#"{"cmd":0}"#).await.unwrap();
    let before = targeted(&mut system).await;
    let mut bob = Client::connect(&gateways[1], "bob").await.unwrap();
    bob.say("private_alice_bob", "m1", "past her gateway").await.unwrap();
    until_counted(&mut system, before).await;
    system.link(End::Gateway(0), End::Redis).unwrap().heal();
    is_told(&mut alice).await;

    // Redis has lost her entry since, without a restart.
    let mut carol = Client::connect(&gateways[2], "carol").await.unwrap();
    carol.request(0, r#"{"cmd":0}"#).await.unwrap();
    until_targeted(&mut system, "dave", "private_dave_erin").await;
    let redis = system.redis().unwrap();
    let revisions = redis.command(&["KEYS", "im:presence:*"]).await.unwrap();
    let lost: Vec<&str> = revisions.split_whitespace().collect();
    redis.command(&[&["DEL", "im:online:{carol}"], &lost[..]].concat()).await.unwrap();
    let before = targeted(&mut system).await;
    bob.say("private_bob_carol", "m2", "past her gateway").await.unwrap();
    until_counted(&mut system, before).await;
    is_told(&mut carol).await;
    system.stop().await;
}

/// Waits until more events than `before` went to some gateways.
async fn until_counted(system: &mut System, before: f64) {
    wait_for("the event", ARRIVAL, async || {
        anyhow::ensure!(targeted(system).await > before, "it is not published, or went to all gateways");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_move_get_all_messages_while_processes_are_killed() {
    let mut system = Builder::new().gateways(GATEWAYS).unlimited().on_own_servers().await.unwrap();
    let gateways = system.ws_urls();
    let readers = Readers::start(&system).await;
    readers.round(&gateways, "before", async {}).await;
    until_targeted(&mut system, "a0", "private_a0_b0").await;
    for n in 0..4 {
        readers.round(&gateways, &format!("moving-{n}"), async {}).await;
    }
    let half = Duration::from_millis(ROUND_MS / 2);
    let killed = async {
        tokio::time::sleep(half).await;
        system.gateway(3).kill();
        system.gateway(3).start_again().await.unwrap();
    };
    readers.round(&gateways, "gateway-killed", killed).await;
    let killed = async {
        tokio::time::sleep(half).await;
        system.worker(0).kill();
        system.worker(0).start_again().await.unwrap();
    };
    readers.round(&gateways, "worker-killed", killed).await;
    until_targeted(&mut system, "a0", "private_a0_b0").await;
    let redis = system.redis().unwrap();
    let flushed = async {
        tokio::time::sleep(half).await;
        redis.command(&["FLUSHALL"]).await.unwrap();
    };
    readers.round(&gateways, "redis-flushed", flushed).await;
    until_targeted(&mut system, "a0", "private_a0_b0").await;
    let redis = system.redis().unwrap();
    let restarted = async {
        tokio::time::sleep(half).await;
        redis.kill();
        redis.lose_data().unwrap();
        redis.start_again().await.unwrap();
    };
    readers.round(&gateways, "redis-restarted", restarted).await;
    for n in 0..2 {
        readers.round(&gateways, &format!("after-{n}"), async {}).await;
    }
    until_targeted(&mut system, "a0", "private_a0_b0").await;
    for n in 0..2 {
        readers.round(&gateways, &format!("targeted-again-{n}"), async {}).await;
    }
    for reader in readers.finish().await {
        assert!(reader.complaints.is_empty(), "{:?}", reader.complaints);
    }
    system.stop().await;
}
