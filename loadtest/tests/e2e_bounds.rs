//! What one client or address may make a gateway do: memory, work, places and connections are bounded, and others are
//! served meanwhile.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use testbed::client::{Chat, Client, Http};
use testbed::stack::{Builder, System};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const NOTES: &str = "private_greedy_greedy";

async fn connect(system: &System, user: &str) -> Client {
    Client::open(&format!("{}?user_id={user}", system.ws_urls()[0])).await.unwrap()
}

/// The memory of a gateway that is not freed, in MiB.
fn memory_mib(system: &mut System) -> u64 {
    let id = system.gateway(0).process().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

/// Stores `count` messages of this content.
async fn store(client: &mut Client, count: usize, conversation: &str, content: &str) {
    for n in 0..count {
        let chat = Chat {
            conversation: conversation.to_owned(),
            msg_id: format!("m{n}"),
            content: content.to_owned(),
            stored: n + 1 == count,
        };
        assert_eq!(client.chat_until_taken(&chat).await.unwrap().code, 0);
    }
}

fn pull(conversation: &str, n: usize, cursor: usize, limit: usize) -> String {
    format!(
        r#"{{"cmd":3,"msg_id":"p{n}","conversation_id":"{conversation}","cursor_seq":{cursor},"payload":{{"limit":{limit}}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_nobody_reads_take_bounded_memory_and_others_are_answered() {
    let mut system = Builder::new().gateways(1).unlimited().for_test().await.unwrap();
    let mut greedy = connect(&system, "greedy").await;
    store(&mut greedy, 256, NOTES, &"\u{1}".repeat(4_096)).await;
    let before = memory_mib(&mut system);

    let mut connections = Vec::new();
    for _ in 0..4 {
        let mut client = connect(&system, "greedy").await;
        for n in 0..256 {
            // Another page each time: equal pages would share their memory.
            client.send(pull(NOTES, n, n, 500)).await.unwrap();
        }
        connections.push(client);
    }
    let mut other = connect(&system, "other").await;
    other.say("private_other_other", "m", "hello").await.unwrap();
    let (start, mut most) = (Instant::now(), 0);
    // Longer than the deadline of the requests.
    while start.elapsed() < Duration::from_secs(6) {
        assert_eq!(other.pull("private_other_other", 0, 10).await.unwrap().code, 0);
        most = most.max(memory_mib(&mut system));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(most < before + 100, "{before} MiB before, {most} MiB with replies that nobody reads");

    // Each request has an answer: a page, or a refusal with a delay.
    let (mut pages, mut refusals) = (0, 0);
    for client in &mut connections {
        for _ in 0..256 {
            let packet = client.next().await.unwrap();
            match packet.code {
                0 => pages += 1,
                429 | 503 if packet.retry_after_ms().is_some() => refusals += 1,
                code => panic!("{code}"),
            }
        }
        assert_eq!(client.pull(NOTES, 0, 500).await.unwrap().code, 0);
    }
    assert!(pages > 0 && refusals > 0, "{pages} pages, {refusals} refusals");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_read_while_one_user_asks_for_more_than_its_share() {
    let system = Builder::new().gateways(1).set("IM__LIMITS__USER_MESSAGES_PER_SECOND", 0);
    let system = system.for_test().await.unwrap();
    let mut greedy = connect(&system, "greedy").await;
    store(&mut greedy, 200, NOTES, &"x".repeat(4_000)).await;
    let mut other = connect(&system, "other").await;
    other.say("private_other_other", "m", "hello").await.unwrap();
    median(&mut other, 20).await;
    let quiet = median(&mut other, 50).await;

    let hog = async {
        let (mut answered, mut refused) = (0, 0);
        for n in 0..256 {
            greedy.send(pull(NOTES, n, 0, 100)).await.unwrap();
        }
        for n in 256..2_000 {
            match greedy.next().await.unwrap().code {
                0 => answered += 1,
                429 => refused += 1,
                code => panic!("{code}"),
            }
            greedy.send(pull(NOTES, n, 0, 100)).await.unwrap();
            if refused > 0 {
                break;
            }
        }
        (answered, refused)
    };
    let others = async {
        // The budget for once is spent first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        median(&mut other, 200).await
    };
    let ((answered, refused), busy) = tokio::join!(hog, others);
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    assert!(busy < quiet * 3 + Duration::from_millis(5), "{quiet:?} quiet, {busy:?} beside the greedy user");
}

/// The median time of a pull, of `count`.
async fn median(client: &mut Client, count: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        assert_eq!(client.pull("private_other_other", 0, 10).await.unwrap().code, 0);
        times.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times.sort_unstable();
    times[count / 2]
}

/// A connection from this address of the machine, on which `text` was sent.
async fn raw(system: &System, from: &str, text: &str) -> TcpStream {
    let to = system.http_urls()[0].strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// The status of the response, or `None` after one second without a response.
async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut text = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut text)).await.ok()?;
    read.unwrap();
    std::str::from_utf8(&text).unwrap().rsplit(' ').next().unwrap().parse().ok()
}

fn unfinished(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n{{")
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_of_one_address_leave_places_for_everyone_else() {
    let system = Builder::new()
        .gateways(1)
        .unlimited()
        .set("IM__AUTH__HS256_SECRET", "0123456789abcdef0123456789abcdef")
        .set("IM__AUTH__ACCOUNTS", true)
        .set("IM__LIMITS__HTTP_CALLS_MAX", 60)
        .set("IM__LIMITS__ADDRESS_CALLS_AT_ONCE", 20);
    let system = system.for_test().await.unwrap();

    let mut refused = raw(&system, "127.0.0.2", &unfinished("/api/groups")).await;
    assert_eq!(status(&mut refused).await, Some(401), "before the body");

    let mut unfinished_logins = Vec::new();
    for from in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        for _ in 0..30 {
            unfinished_logins.push(raw(&system, from, &unfinished("/api/login")).await);
        }
        let answers = join_all(unfinished_logins.iter_mut().map(status)).await;
        let waiting = answers.iter().filter(|answer| answer.is_none()).count();
        assert!(answers.iter().flatten().all(|code| matches!(code, 429 | 503)), "{from}: {answers:?}");
        assert!((20..=30).contains(&waiting), "{from}: {waiting} of {}", answers.len());
        // Those that were refused have their answer.
        let mut answers = answers.into_iter();
        unfinished_logins.retain(|_| answers.next().flatten().is_none());
    }
    let url = &system.http_urls()[0];
    Http::of_user(url, "bob").ok("GET", "/api/conversations", None).await.unwrap();
    let operator = Http::of_operator(url, system.operator_key());
    operator.ok("POST", "/api/admin/tokens", Some(json!({"user_id": "bob"}))).await.unwrap();
    drop(unfinished_logins);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_are_hurried_and_files_are_raised() {
    let mut system = Builder::new()
        .gateways(1)
        .set("IM__LIMITS__ADDRESS_PENDING_CONNECTIONS_MAX", 50)
        .for_test()
        .await
        .unwrap();
    let id = system.gateway(0).process().unwrap().id();
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files: Vec<u64> = files.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(files[0] >= files[1].min(100_000), "soft and hard limit of open files: {files:?}");

    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(raw(&system, "127.0.0.2", "").await);
    }
    // The later ones are closed after a second, the first ones are not yet.
    let start = Instant::now();
    let closed = idle.split_off(60);
    for mut stream in closed {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "open after {:?}", start.elapsed());
    }
    let first = tokio::time::timeout(Duration::from_millis(100), idle[0].read_to_end(&mut Vec::new())).await;
    assert!(first.is_err(), "closed after {:?}", start.elapsed());
    for base in [system.http_urls()[0].clone(), system.ops_urls()[0].clone()] {
        let to = base.strip_prefix("http://").unwrap().parse().unwrap();
        let mut stream = TcpSocket::new_v4().unwrap().connect(to).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(status(&mut stream).await, Some(200), "{base}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_connection_of_a_user_closes_the_one_that_was_silent_longest() {
    let system = Builder::new().gateways(1).set("IM__LIMITS__CONNECTIONS_PER_USER_MAX", 3);
    let system = system.for_test().await.unwrap();
    let mut devices = Vec::new();
    for device in 0..3 {
        let url = format!("{}?user_id=alice&device_id=d{device}", system.ws_urls()[0]);
        devices.push(Client::open(&url).await.unwrap());
        devices[device].request(0, r#"{"cmd":0}"#).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    devices[0].request(0, r#"{"cmd":0}"#).await.unwrap();
    let mut fourth = connect(&system, "alice").await;
    fourth.request(0, r#"{"cmd":0}"#).await.unwrap();
    let ended = devices[1].until_closed().await.unwrap();
    assert_eq!(ended.0.map(|(code, _)| code), Some(4429));
    for client in [0, 2] {
        devices[client].request(0, r#"{"cmd":0}"#).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_makes_few_groups_and_adds_few_members_a_day() {
    let system = Builder::new()
        .gateways(1)
        .set("IM__GROUPS__MADE_PER_DAY", 2)
        .set("IM__GROUPS__MEMBERS_ADDED_PER_DAY", 10)
        .set("IM__GROUPS__PER_USER_MAX", 3)
        .for_test()
        .await
        .unwrap();
    let url = &system.http_urls()[0];
    let (ann, operator) = (Http::of_user(url, "ann"), Http::of_operator(url, system.operator_key()));
    let group = |n: usize| json!({"conversation_id": format!("group_{n}"), "members": ["bob"]});
    let add = |range: std::ops::Range<usize>| json!({"user_ids": range.map(|n| format!("invented{n}")).collect::<Vec<_>>()});
    ann.ok("POST", "/api/groups", Some(group(1))).await.unwrap();
    ann.ok("POST", "/api/groups", Some(group(2))).await.unwrap();
    assert_eq!(ann.refused("POST", "/api/groups", Some(group(3))).await.unwrap(), 429);
    let members = "/api/groups/group_1/members";
    ann.ok("POST", members, Some(add(0..6))).await.unwrap();
    assert_eq!(ann.refused("POST", members, Some(add(6..9))).await.unwrap(), 429);
    ann.ok("POST", members, Some(add(6..8))).await.unwrap();
    assert_eq!(ann.refused("POST", members, Some(add(8..9))).await.unwrap(), 429);
    operator.ok("POST", members, Some(add(0..50))).await.unwrap();
    // Nobody is put into more groups than allowed, except by the operator.
    let carl = Http::of_user(url, "carl");
    carl.ok("POST", "/api/groups", Some(group(4))).await.unwrap();
    assert_eq!(carl.refused("POST", "/api/groups", Some(group(5))).await.unwrap(), 409);
    operator.ok("POST", "/api/groups", Some(group(5))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_are_made_by_use_and_accepted_invitations_count() {
    let system = Builder::new()
        .gateways(1)
        .set("IM__GROUPS__MADE_PER_DAY", 2)
        .set("IM__GROUPS__PER_USER_MAX", 3)
        .for_test()
        .await
        .unwrap();
    let url = &system.http_urls()[0];
    let (ann, bob) = (Http::of_user(url, "ann"), Http::of_user(url, "bob"));
    let mut use_as_ann = connect(&system, "ann").await;
    use_as_ann.say("group_1", "a", "x").await.unwrap();
    use_as_ann.say("group_2", "b", "x").await.unwrap();
    let say = |group: &str| {
        format!(r#"{{"cmd":2,"msg_id":"{group}","conversation_id":"{group}","payload":{{"content":"x"}}}}"#)
    };
    let refused = use_as_ann.request(2, say("group_3")).await.unwrap();
    assert_eq!(refused.code, 429, "{refused:?}");
    assert!(refused.payload["retry_after_ms"].as_u64().unwrap() > 0);
    let pulled = use_as_ann.pull("group_3", 0, 10).await.unwrap();
    assert_eq!(pulled.code, 429, "a pull makes a group, too");
    assert_eq!(ann.refused("POST", "/api/groups", Some(json!({}))).await.unwrap(), 429);

    // Open groups of others are joined up to the limit of memberships.
    let mut use_as_bob = connect(&system, "bob").await;
    for group in ["group_1", "group_2", "group_3"] {
        assert_eq!(use_as_bob.request(2, say(group)).await.unwrap().code, 0, "{group}");
    }
    assert_eq!(use_as_ann.request(2, say("group_3")).await.unwrap().code, 0);
    let mut use_as_carl = connect(&system, "carl").await;
    assert_eq!(use_as_carl.request(2, say("group_4")).await.unwrap().code, 0);
    for mut client in [use_as_ann, use_as_bob] {
        let refused = client.request(2, say("group_4")).await.unwrap();
        assert_eq!(refused.code, 403, "{refused:?}");
        assert!(refused.payload.as_str().unwrap().contains("is in 3 groups"), "{refused:?}");
    }

    // So are groups by invitation.
    let dora = Http::of_user(url, "dora");
    bob.ok("PATCH", "/api/settings", Some(json!({"group_adds": "nobody"}))).await.unwrap();
    bob.ok("DELETE", "/api/groups/group_1/members/bob", None).await.unwrap();
    for group in ["group_5", "group_6"] {
        let new = json!({"conversation_id": group, "members": ["bob"]});
        dora.ok("POST", "/api/groups", Some(new)).await.unwrap();
    }
    bob.ok("POST", "/api/invitations/group_5", None).await.unwrap();
    assert_eq!(bob.refused("POST", "/api/invitations/group_6", None).await.unwrap(), 409);
    bob.ok("DELETE", "/api/groups/group_2/members/bob", None).await.unwrap();
    bob.ok("POST", "/api/invitations/group_6", None).await.unwrap();
}

/// Asks for a page of half a megabyte on a new connection with a small receive buffer, and reads nothing of it.
async fn asks_and_reads_nothing(system: &System) -> TcpStream {
    let to = system.http_urls()[0].strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let path = format!("/api/conversations/{NOTES}/messages?user_id=greedy&limit=500");
    // Several requests: the buffers of the kernel take a part of what they ask for.
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.repeat(16).as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_client_that_reads_nothing_is_disconnected_and_others_get_its_place() {
    const CONNECTIONS: usize = 12;
    const TIMEOUT_MS: u64 = 2_000;
    let mut system = Builder::new()
        .gateways(1)
        .unlimited()
        .set("IM__TIMEOUTS__HTTP_WRITE_MS", TIMEOUT_MS)
        .set("IM__LIMITS__CONNECTIONS_MAX", CONNECTIONS + 1)
        .set("IM__LIMITS__ADDRESS_PENDING_CONNECTIONS_MAX", 0)
        .set("IM__LIMITS__REPLY_BYTES_PER_USER_MAX", 32 << 20)
        .for_test()
        .await
        .unwrap();
    let mut greedy = connect(&system, "greedy").await;
    store(&mut greedy, 64, NOTES, &"\u{1}".repeat(4_096)).await;
    drop(greedy);
    let before = memory_mib(&mut system);
    for _ in 0..2 {
        let begun = Instant::now();
        let mut stalled = Vec::new();
        for _ in 0..CONNECTIONS {
            stalled.push(asks_and_reads_nothing(&system).await);
        }
        // The last place is of a client that reads; a further one waits for a place.
        let url = &system.http_urls()[0];
        let (mut last, mut further) =
            (raw(&system, "127.0.0.1", "").await, raw(&system, "127.0.0.1", "").await);
        let health = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
        last.write_all(health).await.unwrap();
        assert_eq!(status(&mut last).await, Some(200));
        further.write_all(health).await.unwrap();
        let mut text = [0; 12];
        let answered = tokio::time::timeout(Duration::from_secs(20), further.read_exact(&mut text)).await;
        answered.expect("no place was freed").unwrap();
        assert_eq!(&text, b"HTTP/1.1 200");
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(TIMEOUT_MS - 200), "{waited:?}: all had a place at once");
        let memory = memory_mib(&mut system);
        assert!(memory < before + 100, "{before} MiB before, {memory} MiB");
        drop((last, further));
        // The user that was disconnected may go on.
        let page = format!("/api/conversations/{NOTES}/messages?limit=500");
        Http::of_user(url, "greedy").ok("GET", &page, None).await.unwrap();
        drop(stalled);
    }
}
