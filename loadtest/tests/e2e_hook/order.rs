//! Calls take different times: the messages of one connection to one conversation keep their order, and nothing else waits.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Endpoint, Reply, allow, refuse};
use crate::{answer_to, asking, connect, frame, send, text};

const MESSAGES: usize = 400;
const GROUPS: [&str; 3] = ["group_a", "group_b", "group_c"];

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_connection_to_one_conversation_keep_their_order_whatever_calls_take() {
    let endpoint = Endpoint::start().await;
    let system = asking(&endpoint, "refuse").for_test().await.unwrap();
    let mut clients = [connect(&system, 0, "alice").await, connect(&system, 1, "alice").await];
    for group in GROUPS {
        assert_eq!(send(&mut clients[0], group, "first", &text("first")).await.code, 0);
    }
    endpoint.set(|data| {
        let delay = Duration::from_millis(rand::random_range(0..120));
        let is_bad = data["message"]["content"].as_str().unwrap().ends_with('7');
        Reply::Json(delay, if is_bad { refuse("no") } else { allow() })
    });
    // Of both connections: in pieces that one connection may have in flight.
    let mut accepted: HashMap<(usize, &str), Vec<String>> = HashMap::new();
    for piece in 0..MESSAGES / 100 {
        for n in piece * 100..(piece + 1) * 100 {
            for (c, client) in clients.iter_mut().enumerate() {
                let group = GROUPS[n % GROUPS.len()];
                // Every fifth one is not asked about, and may not overtake.
                let payload = match n % 5 {
                    4 => json!({"msg_type": 5, "react_seq": 1, "reaction": format!("{c}-{n}")}),
                    _ => json!({"content": format!("{c}-{n}")}),
                };
                client.send(frame(group, &format!("{c}-{n}"), &payload)).await.unwrap();
                if n % 5 != 4 && n % 10 != 7 {
                    accepted.entry((c, group)).or_default().push(format!("{c}-{n}"));
                }
            }
        }
        for (c, client) in clients.iter_mut().enumerate() {
            let mut left: Vec<_> = (piece * 100..(piece + 1) * 100).map(|n| format!("{c}-{n}")).collect();
            while !left.is_empty() {
                let answer = client.wait_for(|packet| packet.cmd == 2).await.unwrap();
                let id = answer.msg_id.clone().unwrap();
                left.retain(|one| *one != id);
                let n: usize = id.split_once('-').unwrap().1.parse().unwrap();
                // A message shows 20 different reactions.
                let expected: &[i64] = if n % 5 == 4 {
                    &[0, 403]
                } else if n % 10 == 7 {
                    &[403]
                } else {
                    &[0]
                };
                assert!(
                    expected.contains(&i64::from(answer.code)),
                    "{id}: {} {}",
                    answer.code,
                    answer.payload
                );
            }
        }
    }
    for group in GROUPS {
        assert_eq!(send(&mut clients[0], group, "last", &text("last")).await.code, 0);
        let entries = clients[1].pull_all(group, 0).await.unwrap();
        for c in 0..2 {
            let of_client: Vec<_> = entries
                .iter()
                .map(|one| one.msg_id.as_str())
                .filter(|id| id.starts_with(&format!("{c}-")))
                .collect();
            let numbers: Vec<usize> =
                of_client.iter().map(|id| id.split_once('-').unwrap().1.parse().unwrap()).collect();
            assert!(numbers.is_sorted(), "{group} of connection {c}: {numbers:?}");
            let texts: Vec<_> =
                of_client.iter().filter(|id| accepted[&(c, group)].iter().any(|one| one == **id)).collect();
            assert_eq!(texts.len(), accepted[&(c, group)].len(), "{group} of connection {c}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_call_holds_up_its_conversation_on_its_connection_only() {
    let endpoint = Endpoint::start().await;
    let system = asking(&endpoint, "refuse").set("IM__HOOK__TIMEOUT_MS", 1_250).for_test().await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    let mut other = connect(&system, 0, "alice").await;
    for group in GROUPS {
        assert_eq!(send(&mut alice, group, "first", &text("first")).await.code, 0);
    }
    const SLOW: Duration = Duration::from_millis(1_000);
    endpoint.set(|data| {
        let is_slow = data["message"]["content"] == "slow";
        Reply::Json(if is_slow { SLOW } else { Duration::ZERO }, allow())
    });
    let begin = Instant::now();
    for (group, msg_id, content) in
        [("group_a", "slow", "slow"), ("group_a", "behind", "x"), ("group_b", "beside", "x")]
    {
        alice.send(frame(group, msg_id, &json!({"content": content}))).await.unwrap();
    }
    alice.request(0, r#"{"cmd":0}"#).await.unwrap();
    let pulled = alice.pull("group_a", 0, 10).await.unwrap();
    assert_eq!(pulled.messages().unwrap().len(), 1);
    // `wait_for` drops what it is not asked for: the answer came before or comes after the pull.
    other.send(frame("group_a", "other", &json!({"content": "x"}))).await.unwrap();
    assert_eq!(answer_to(&mut other, "other").await.code, 0);
    let elapsed = begin.elapsed();
    assert!(elapsed < SLOW / 2, "heartbeat, pull and another connection took {elapsed:?}");
    for msg_id in ["slow", "behind"] {
        assert_eq!(answer_to(&mut alice, msg_id).await.code, 0);
    }
    assert!(begin.elapsed() >= SLOW);
    let mut order = Vec::new();
    for group in ["group_a", "group_b"] {
        send(&mut alice, group, "end", &text("end")).await;
        let entries = alice.pull_all(group, 0).await.unwrap();
        order.extend(entries.into_iter().map(|one| one.msg_id));
    }
    assert_eq!(order, ["first", "other", "slow", "behind", "end", "first", "beside", "end"]);
}
