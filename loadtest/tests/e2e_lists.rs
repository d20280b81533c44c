//! Lists come to their end: real stores whose inboxes and group heads are older than a client expects.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::client::{Client, Http};
use testbed::stack::{Builder, System};

const TIMEOUT: Duration = Duration::from_secs(30);
/// A list of a few dozen conversations has fewer pages.
const PAGES_MAX: usize = 100;

async fn connect(system: &System, user: &str) -> Client {
    Client::open(&format!("{}?user_id={user}", system.ws_urls()[0])).await.unwrap()
}

/// Reads all pages from the beginning. Every page has a higher cursor or is the last one, and none begins anew.
async fn sync_from_the_beginning(client: &mut Client, limit: usize) -> BTreeSet<String> {
    let (mut cursor, mut seen) = (0, BTreeSet::new());
    for _ in 0..PAGES_MAX {
        let page = client.sync(cursor, limit).await.unwrap();
        assert_eq!((page.code, page.reset), (0, false), "after cursor {cursor}");
        seen.extend(page.entries().unwrap().into_iter().map(|entry| entry.conversation_id));
        let next = page.next_cursor_seq.unwrap();
        if page.has_more != Some(true) {
            return seen;
        }
        assert!(next > cursor, "{next} after {cursor}");
        cursor = next;
    }
    panic!("the list has no end");
}

/// The same over HTTP, newest change first.
async fn list_from_the_newest(system: &System, user: &str, limit: usize) -> BTreeSet<String> {
    let http = Http::of_user(&system.http_urls()[0], user);
    let (mut cursor, mut seen) = (0, BTreeSet::new());
    for _ in 0..PAGES_MAX {
        let path = format!("/api/conversations?limit={limit}&cursor={cursor}");
        let page = http.ok("GET", &path, None).await.unwrap();
        let listed = page["conversations"].as_array().unwrap();
        seen.extend(listed.iter().map(|entry| entry["conversation_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_u64() else { return seen };
        assert!(next > 0 && (cursor == 0 || next < cursor), "{next} after {cursor}");
        cursor = next;
    }
    panic!("the list has no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_list_ends_although_its_changes_are_older_than_a_cursor_may_be() {
    let system = Builder::new().unlimited().set("IM__INBOX__TTL_S", 3).for_test().await.unwrap();
    let mut victor = connect(&system, "victor").await;
    for n in 0..30 {
        victor.say(&format!("private_p{n:02}_victor"), "m", "hello").await.unwrap();
    }
    let start = Instant::now();
    let all = loop {
        let all = sync_from_the_beginning(&mut victor, 100).await;
        if all.len() == 30 {
            break all;
        }
        assert!(start.elapsed() < TIMEOUT, "not all chats are committed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let old = victor.sync(0, 100).await.unwrap().next_cursor_seq.unwrap();
    // The inbox stays in use while its versions get older than a cursor may be.
    let start = Instant::now();
    while victor.sync(old, 1).await.unwrap().has_more != Some(true) {
        assert!(start.elapsed() < TIMEOUT, "the cursor does not age");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(sync_from_the_beginning(&mut victor, 7).await, all);
    assert_eq!(list_from_the_newest(&system, "victor", 7).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_list_ends_although_group_heads_are_older_than_its_inbox() {
    let system = Builder::new().unlimited().set("IM__GROUPS__LARGE_ABOVE", 2).for_test().await.unwrap();
    let owner = Http::of_user(&system.http_urls()[0], "olga");
    let mut olga = connect(&system, "olga").await;
    let cursor = olga.sync(0, 100).await.unwrap().next_cursor_seq.unwrap();
    let mut all = BTreeSet::new();
    for n in 0..24 {
        let group = format!("group_g{n:02}");
        let new = json!({"conversation_id": group, "members": ["victor", "adam"]});
        owner.ok("POST", "/api/groups", Some(new)).await.unwrap();
        olga.say(&group, "m", "hello").await.unwrap();
        all.insert(group);
    }
    // All heads are recorded.
    let start = Instant::now();
    loop {
        let page = olga.sync(cursor, 100).await.unwrap();
        if page.entries().unwrap().iter().filter(|entry| entry.last_seq > Some(0)).count() == all.len() {
            break;
        }
        assert!(start.elapsed() < TIMEOUT, "the heads are not recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut victor = connect(&system, "victor").await;
    for limit in [1, 5, 12, 100] {
        assert_eq!(sync_from_the_beginning(&mut victor, limit).await, all, "limit {limit}");
        assert_eq!(list_from_the_newest(&system, "victor", limit).await, all, "limit {limit}");
    }
}
