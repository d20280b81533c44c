//! The Rust client against real gateways: two gateways and two workers on real stores.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use im_client::protocol::StoredMessage;
use im_client::{
    Client, ConnectionState, Delivery, Draft, Error, Event, Events, FileStore, MembershipChange, MemoryStore,
    NewGroup, Start, TokenReason,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use testbed::stack::{Builder, DEMO_SECRET, Link, System};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(60);
/// For a message behind many others, with gateways that are away.
const STORED_TIMEOUT: Duration = Duration::from_secs(150);
const MESSAGES: usize = 1_000;
/// Less than the 60 s before the end at which the server warns: it does so right after the login.
const FIRST_TOKEN: Duration = Duration::from_secs(6);
const HOUR: Duration = Duration::from_secs(3_600);

async fn system() -> System {
    Builder::new().unlimited().for_test().await.unwrap()
}

/// A link to each gateway, which can be cut.
async fn links(system: &mut System) -> Vec<Link> {
    let mut links = Vec::new();
    for n in 0..system.gateway_count() {
        links.push(Link::to(system.gateway(n).port()).await.unwrap());
    }
    links
}

fn builder(urls: &[String], user: &str) -> im_client::Builder {
    let (first, rest) = urls.split_first().unwrap();
    rest.iter().fold(Client::builder(first), |builder, url| builder.or_url(url)).user(user)
}

async fn connect(system: &System, user: &str) -> (Client, Events) {
    let connected = builder(&system.ws_urls(), user).connect().await.unwrap();
    connected.0.online().await.unwrap();
    connected
}

/// The next event that `wanted` maps to something.
async fn next<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.unwrap();
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    timeout(TIMEOUT, found).await.unwrap()
}

fn text(event: &Event) -> Option<StoredMessage> {
    match event {
        Event::Message(one) => Some(one.message.clone()),
        _ => None,
    }
}

/// The whole conversation, as the server has it.
async fn history(system: &System, user: &str, id: &str) -> Vec<StoredMessage> {
    let mut client = testbed::client::Client::connect(&system.ws_urls()[0], user).await.unwrap();
    client.pull_all(id, 0).await.unwrap()
}

/// Reads until it has `last`, with clients that come and go if `leaves`. Returns what it was told, without what came again
/// because a client was gone before it had written its cursor.
async fn read(
    urls: Vec<String>,
    user: String,
    leaves: bool,
    stop_leaving: CancellationToken,
) -> Vec<StoredMessage> {
    let store = MemoryStore::default();
    let mut told: Vec<StoredMessage> = Vec::new();
    loop {
        let (client, mut events) =
            builder(&urls, &user).store(store.clone()).queue(50).connect().await.unwrap();
        let stays = Duration::from_millis(rand::random_range(300..1_800));
        let leaves = leaves && !stop_leaving.is_cancelled();
        let reading = async {
            while let Some(event) = events.next().await {
                let Some(message) = text(&event) else { continue };
                match told.last().filter(|last| last.seq >= message.seq) {
                    None => told.push(message),
                    Some(_) => {
                        let place = told.binary_search_by_key(&message.seq, |told| told.seq).unwrap();
                        assert_eq!(told[place], message, "it came again");
                    }
                }
                if told.last().is_some_and(|last| last.content == "the end") {
                    return true;
                }
            }
            false
        };
        let is_over = if leaves { timeout(stays, reading).await.unwrap_or(false) } else { reading.await };
        // Half of them stop in order, the others are gone at once.
        if is_over || rand::random_bool(0.5) {
            client.stop().await;
        }
        if is_over {
            return told;
        }
        drop((client, events));
        sleep(Duration::from_millis(rand::random_range(0..1_000))).await;
    }
}

/// Gateways that are killed and drained, and sockets that are cut.
async fn trouble(system: &mut System, links: &[Link]) {
    let cut = |n: usize| {
        links[n].cut();
        links[n].heal();
    };
    sleep(Duration::from_millis(1_500)).await;
    system.gateway(0).kill();
    sleep(Duration::from_millis(500)).await;
    cut(1);
    system.gateway(0).start_again().await.unwrap();
    sleep(Duration::from_millis(1_500)).await;
    let status = system.gateway(1).terminate().await;
    assert!(status.is_some_and(|status| status.success()), "it did not drain: {status:?}");
    system.gateway(1).start_again().await.unwrap();
    for n in 0..6 {
        sleep(Duration::from_millis(400)).await;
        cut(n % 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_of_the_rust_client_ends_with_the_identical_list() {
    let mut system = system().await;
    let links = links(&mut system).await;
    let urls: Vec<String> = links.iter().map(|link| format!("ws://127.0.0.1:{}/ws", link.port())).collect();
    let other_way: Vec<String> = urls.iter().rev().cloned().collect();
    let names = |kind: &str, count: usize| (0..count).map(|n| format!("{kind}{n}")).collect::<Vec<_>>();
    let (senders, readers) = (names("sender", 3), names("reader", 6));
    let mut writing = Vec::new();
    for user in &senders {
        writing.push(builder(&urls, user).connect().await.unwrap());
    }
    let members = senders[1..].iter().chain(&readers).cloned().collect();
    let group = NewGroup { members, ..NewGroup::default() };
    let id = writing[0].0.groups().create(&group).await.unwrap().conversation_id;

    // The first two readers stay connected.
    let stop_leaving = CancellationToken::new();
    let mut reading = JoinSet::new();
    for (n, user) in readers.iter().enumerate() {
        let urls = if n % 2 == 0 { urls.clone() } else { other_way.clone() };
        reading.spawn(read(urls, user.clone(), n > 1, stop_leaving.clone()));
    }
    let mut storing = JoinSet::new();
    let sending = async {
        for n in 0..MESSAGES {
            let conversation = writing[n % writing.len()].0.conversation(&id);
            let mut sent = conversation.send(format!("message {n}")).await.unwrap();
            storing.spawn(async move { timeout(STORED_TIMEOUT, sent.stored()).await.unwrap().unwrap() });
            sleep(Duration::from_millis(8)).await;
        }
    };
    tokio::join!(sending, trouble(&mut system, &links));
    let mut stored = storing.join_all().await;
    stop_leaving.cancel();
    writing[0].0.conversation(&id).send("the end").await.unwrap().stored().await.unwrap();

    let truth = history(&system, &senders[0], &id).await;
    let seqs: Vec<u64> = truth.iter().map(|message| message.seq).collect();
    stored.sort_unstable();
    assert_eq!(stored, seqs[..MESSAGES], "each message is stored once");
    for k in 0..senders.len() {
        let own = truth.iter().filter(|message| message.sender_id == senders[k]);
        let numbers: Vec<usize> =
            own.filter_map(|message| message.content.strip_prefix("message ")?.parse().ok()).collect();
        let expected: Vec<usize> = (k..MESSAGES).step_by(senders.len()).collect();
        assert_eq!(numbers, expected, "in the order of sending");
    }
    let lists = timeout(TIMEOUT, reading.join_all()).await.unwrap();
    assert_eq!(lists.len(), readers.len());
    for list in lists {
        assert!(list == truth, "{} of {} messages", list.len(), truth.len());
    }
    for (client, mut events) in writing {
        let last =
            next(&mut events, |event| text(event).filter(|message| message.content == "the end")).await;
        assert_eq!(last, *truth.last().unwrap());
        assert_eq!(client.outbox().await.unwrap(), []);
        client.stop().await;
    }
    system.stop().await;
}

fn token(user: &str, lifetime: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": user, "iat": now, "exp": now + lifetime.as_secs()});
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(DEMO_SECRET.as_bytes()))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exchanged_before_it_expires_and_the_connection_goes_on() {
    let system = system().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let (client, mut events) = Client::builder(&system.http_urls()[0])
        .token_provider(move |reason| {
            let n = counting.fetch_add(1, Ordering::Relaxed);
            let reasons = [TokenReason::Login, TokenReason::Expiring];
            assert_eq!(reason, reasons[n.min(1)]);
            // The first one ends within the test, which is said right after the login.
            let lifetime = if n == 0 { FIRST_TOKEN } else { HOUR };
            async move { Ok::<_, Error>(Some(token("alice", lifetime))) }
        })
        .connect()
        .await
        .unwrap();
    assert_eq!(client.user_id(), "alice");
    next(&mut events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    // Beyond the end of the first one.
    sleep(FIRST_TOKEN + Duration::from_secs(2)).await;
    let mut sent = client.direct("bob").send("still here").await.unwrap();
    timeout(TIMEOUT, sent.stored()).await.unwrap().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    client.stop().await;
    while let Some(event) = events.next().await {
        let Event::Connection(state) = event else { continue };
        assert!(matches!(state, ConnectionState::Stopped { .. }), "{state:?}");
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_replaced_and_a_provider_ends_the_session() {
    let system = system().await;
    let provider = |reason| async move {
        Ok::<_, Error>(match reason {
            TokenReason::Login => Some("no token".to_owned()),
            _ => Some(token("alice", HOUR)),
        })
    };
    let connected = Client::builder(&system.ws_urls()[0]).token_provider(provider).connect().await;
    let (client, _events) = connected.unwrap();
    client.online().await.unwrap();
    client.call("GET", "/api/users/me", &[], None).await.unwrap();
    client.stop().await;
    let ended = |_| async { Ok::<_, Error>(None) };
    let error = Client::builder(&system.ws_urls()[0]).token_provider(ended).connect().await.unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code == 401), "{error}");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unsent_survives_the_process_and_is_sent_once() {
    let mut system = system().await;
    let links = links(&mut system).await;
    let url = format!("ws://127.0.0.1:{}", links[0].port());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alice.redb");
    links[0].cut();
    let store = FileStore::open(&file).unwrap();
    let (client, events) = Client::builder(&url).user("alice").store(store).connect().await.unwrap();
    let bob = client.direct("bob");
    for n in 0..3 {
        bob.send(Draft::text(format!("m{n}")).with_id(format!("m{n}"))).await.unwrap();
    }
    let device = client.device_id().to_owned();
    client.stop().await;
    drop((client, bob, events));
    links[0].heal();
    let store = FileStore::open(&file).unwrap();
    let (client, _events) = Client::builder(&url).user("alice").store(store).connect().await.unwrap();
    assert_eq!(client.device_id(), device);
    let mut again = client.direct("bob").send(Draft::text("m2").with_id("m2")).await.unwrap();
    timeout(TIMEOUT, again.stored()).await.unwrap().unwrap();
    let contents: Vec<String> =
        history(&system, "bob", "private_alice_bob").await.into_iter().map(|one| one.content).collect();
    assert_eq!(contents, ["m0", "m1", "m2"]);
    client.stop().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_program_is_told_everything() {
    let system = system().await;
    let slow = builder(&system.ws_urls(), "bob").queue(4).begin_at(Start::Oldest).connect().await;
    let (bob, mut events) = slow.unwrap();
    let (alice, _events) = connect(&system, "alice").await;
    let chat = alice.direct("bob");
    let mut last = None;
    for n in 0..300 {
        last = Some(chat.send(format!("{n}")).await.unwrap());
    }
    timeout(TIMEOUT, last.unwrap().stored()).await.unwrap().unwrap();
    // It has read nothing so far. The list is right all the same.
    let unread = async {
        while bob.direct("alice").summary().await.unwrap().unread != 300 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, unread).await.unwrap();
    for n in 0..300 {
        assert_eq!(next(&mut events, text).await.content, n.to_string());
    }
    bob.stop().await;
    alice.stop().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_typing_and_recalling_are_told() {
    let system = system().await;
    let (alice, mut to_alice) = connect(&system, "alice").await;
    let (bob, mut to_bob) = connect(&system, "bob").await;
    let (phone, mut to_phone) = connect(&system, "bob").await;
    let seq = alice.direct("bob").send("Hello").await.unwrap().stored().await.unwrap();
    let received = next(&mut to_bob, text).await;
    assert_eq!((received.seq, received.content.as_str()), (seq, "Hello"));
    assert_eq!(next(&mut to_phone, text).await.seq, seq);
    assert_eq!(bob.direct("alice").summary().await.unwrap().unread, 1);
    bob.direct("alice").mark_read(None).await.unwrap();
    let read = next(&mut to_alice, |event| match event {
        Event::Read { user_id, seq, .. } => Some((user_id.clone(), *seq)),
        _ => None,
    });
    assert_eq!(read.await, ("bob".to_owned(), seq));
    let is_read = async {
        while phone.direct("alice").summary().await.unwrap().unread != 0 {
            to_phone.next().await.unwrap();
        }
    };
    timeout(TIMEOUT, is_read).await.unwrap();
    bob.direct("alice").typing().await.unwrap();
    let typing = next(&mut to_alice, |event| match event {
        Event::Typing { user_id, .. } => Some(user_id.clone()),
        _ => None,
    });
    assert_eq!(typing.await, "bob");
    alice.direct("bob").recall(seq).await.unwrap().stored().await.unwrap();
    let recall = next(&mut to_bob, text).await;
    assert_eq!((recall.msg_type, recall.recall_seq), (3, Some(seq)));
    let page = bob.direct("alice").history(None, 10).await.unwrap();
    assert_eq!(page.messages.last().map(|one| (one.seq, one.recalled)), Some((seq, true)));
    assert!(!page.has_more);
    for client in [alice, bob, phone] {
        client.stop().await;
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_blocks_profiles_and_refusals() {
    let system = system().await;
    let (alice, mut to_alice) = connect(&system, "alice").await;
    let (bob, mut to_bob) = connect(&system, "bob").await;
    let group = NewGroup { name: Some("Team".into()), members: vec!["bob".into()], ..NewGroup::default() };
    let id = alice.groups().create(&group).await.unwrap().conversation_id;
    let membership = |event: &Event| match event {
        Event::Membership { change, .. } => Some(*change),
        _ => None,
    };
    assert_eq!(next(&mut to_bob, membership).await, MembershipChange::Joined);
    bob.conversation(&id).send("here").await.unwrap().stored().await.unwrap();
    assert_eq!(next(&mut to_alice, text).await.content, "here");
    assert_eq!(alice.groups().get(&id).await.unwrap().members, 2);
    let members = alice.groups().members(&id, None).await.unwrap();
    assert_eq!(members.entries.iter().map(|one| one.role.as_str()).collect::<Vec<_>>(), ["owner", "member"]);
    assert_eq!(alice.presence(&["bob"]).await.unwrap().get("bob"), Some(&true));
    assert_eq!(alice.groups().positions(&id, None).await.unwrap().entries.len(), 2);

    alice.groups().remove(&id, "bob").await.unwrap();
    assert_eq!(next(&mut to_bob, membership).await, MembershipChange::Left);
    let mut refused = bob.conversation(&id).send("not any more").await.unwrap();
    let error = timeout(TIMEOUT, refused.accepted()).await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code == 403), "{error}");
    let outbox = bob.outbox().await.unwrap();
    assert!(matches!(&outbox[0].delivery, Delivery::Failed(refusal) if refusal.code == 403), "{outbox:?}");
    assert!(bob.conversation(&id).discard(refused.msg_id()).await.unwrap());
    assert_eq!(bob.outbox().await.unwrap(), []);
    assert!(bob.conversations().await.unwrap().iter().all(|one| one.conversation_id != id));

    bob.blocks().add("alice").await.unwrap();
    assert_eq!(bob.blocks().list(None).await.unwrap().entries, ["alice"]);
    let mut blocked = alice.direct("bob").send("hello?").await.unwrap();
    let error = timeout(TIMEOUT, blocked.accepted()).await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code == 403), "{error}");
    bob.blocks().remove("alice").await.unwrap();
    let change = json!({"nickname": "Alice"}).as_object().cloned().unwrap();
    assert_eq!(alice.profiles().update(&change).await.unwrap().nickname, "Alice");
    assert_eq!(bob.profiles().get(&["alice", "nobody"]).await.unwrap()[0].nickname, "Alice");
    assert_eq!(bob.invitations().list(None).await.unwrap().entries, []);
    alice.groups().dismiss(&id).await.unwrap();
    let is_dismissed =
        |event: &Event| membership(event).filter(|change| *change == MembershipChange::Dismissed);
    next(&mut to_alice, is_dismissed).await;
    let error = alice.groups().get(&id).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code == 404), "{error}");
    alice.stop().await;
    bob.stop().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_replaced_stops_and_says_why() {
    let system = system().await;
    let client = |device: &str| builder(&system.ws_urls(), "alice").device(device).connect();
    let (first, mut events) = client("phone").await.unwrap();
    first.online().await.unwrap();
    let (second, _events) = client("phone").await.unwrap();
    let stopped = next(&mut events, |event| match event {
        Event::Connection(ConnectionState::Stopped { reason }) => Some(reason.code),
        _ => None,
    });
    assert_eq!(stopped.await, 4409);
    assert_eq!(events.next().await, None);
    assert!(first.direct("bob").send("too late").await.is_err());
    second.online().await.unwrap();
    second.stop().await;
    system.stop().await;
}

/// What `cargo run --example chat` starts.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_chats_and_goes_on_where_it_ended() {
    let program = std::env::current_exe().unwrap().parent().unwrap().join("../examples/chat");
    assert!(program.exists(), "build it first: cargo build --workspace --examples");
    let system = system().await;
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for text in ["three messages\nof an\n", "example\n"] {
        let mut child = tokio::process::Command::new(&program)
            .args([&system.http_urls()[0], "carol", "group_examples"])
            .arg(folder.path().join("carol.redb"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(text.as_bytes()).await.unwrap();
        drop(input);
        let output = timeout(TIMEOUT, child.wait_with_output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        said.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    let contents: Vec<String> =
        history(&system, "carol", "group_examples").await.into_iter().map(|one| one.content).collect();
    assert_eq!(contents, ["three messages", "of an", "example"]);
    for text in contents {
        assert!(said.matches(&format!("carol: {text}")).count() <= 1, "{said}");
    }
    system.stop().await;
}
