//! Files that are not what they say, and callers who may not see them.

use std::time::{Duration, Instant};

use image::ImageFormat;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{File, Files, GROUP, Store, TIMEOUT, connect, id, picture, send, send_files, text};

fn file(name: &'static str, content_type: &'static str, bytes: &[u8]) -> File {
    File { name, content_type, bytes: bytes.to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_announced_are_dropped_with_a_folder() {
    wrong_bytes(Store::Folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_announced_are_dropped_with_an_s3_server() {
    wrong_bytes(Store::S3).await;
}

async fn wrong_bytes(store: Store) {
    let Some(files) = Files::start(store, &[]).await else { return };
    for wrong in [
        file("page.png", "image/png", b"<!DOCTYPE html><html><script>alert(1)</script></html>"),
        file("drawing.png", "image/png", b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"),
        file("program.txt", "text/plain", &[b"\x7fELF\x02\x01\x01".as_slice(), &[0; 100]].concat()),
        file("photo.jpg", "image/jpeg", b"GIF89a\x01\0\x01\0\0\0\0;"),
        file("nothing.png", "image/png", b"\0"),
    ] {
        let begun = files.begin("alice", Some(GROUP), &wrong).await;
        assert!(matches!(files.put(begun["url"].as_str().unwrap(), wrong.bytes.clone()).await, 200..=204));
        let (status, answer) = files.complete("alice", id(&begun)).await;
        assert_eq!(status, 400, "{}: {answer}", wrong.name);
        assert_eq!(files.complete("alice", id(&begun)).await.0, 404, "it is dropped");
        assert!(files.link("alice", id(&begun)).await.is_none());
    }
    // Nothing has arrived, and bytes of another length.
    let right = text("a.txt", 1_000);
    let begun = files.begin("alice", Some(GROUP), &right).await;
    assert_eq!(files.complete("alice", id(&begun)).await.0, 409);
    let url = begun["url"].as_str().unwrap();
    for length in [999, 1_001, 0] {
        assert!(files.put(url, vec![b'x'; length]).await >= 400, "{length} bytes were taken");
    }
    assert!(
        files.put(&url.replacen("/1000?", "/1001?", 1).replacen("1000", "1001", 1), vec![b'x'; 1_001]).await
            >= 400
    );
    assert!(matches!(files.put(url, right.bytes.clone()).await, 200..=204));
    assert_eq!(files.complete("bob", id(&begun)).await.0, 403, "another user's upload");
    assert_eq!(files.complete("alice", id(&begun)).await.0, 200);
    drawing_and_polyglot(&files, store).await;
    if store == Store::Folder {
        cut_off(&files).await;
    }
}

/// A connection that ends within the bytes leaves nothing, and the same address takes them again.
async fn cut_off(files: &Files) {
    let file = text("cut.txt", 1_000_000);
    let begun = files.begin("alice", Some(GROUP), &file).await;
    let url = files.absolute(0, begun["url"].as_str().unwrap());
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let head = format!("PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n");
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&file.bytes[..600_000]).await.unwrap();
    drop(socket);
    let (status, answer) = files.complete("alice", id(&begun)).await;
    assert_eq!(status, 409, "{answer}");
    let incoming = files.system.logs().with_file_name("files").join("incoming").join(id(&begun));
    let until = Instant::now() + TIMEOUT;
    while std::fs::read_dir(&incoming).is_ok_and(|mut left| left.next().is_some()) {
        assert!(Instant::now() < until, "a part of the file is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(files.put(&url, file.bytes).await, 200);
    assert_eq!(files.complete("alice", id(&begun)).await.0, 200);
}

/// They are stored as what they are, and never run.
async fn drawing_and_polyglot(files: &Files, store: Store) {
    let drawing =
        file("a.svg", "image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>");
    let drawing = files.upload("alice", Some(GROUP), &drawing).await;
    let link = files.link("alice", id(&drawing)).await.unwrap();
    let answer = files.get(&link).await;
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    let polyglot = file("a.gif", "image/gif", b"GIF89a\x2f\x2a\x01\0\0\0\0\0*/=1;alert(1)//");
    let polyglot = files.upload("alice", Some(GROUP), &polyglot).await;
    let link = files.link("alice", id(&polyglot)).await.unwrap();
    let answer = files.get(&link).await;
    assert_eq!(answer.headers()["content-type"], "image/gif");
    if store == Store::Folder {
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
    // A drawing is no picture.
    let mut alice = connect(files, 0, "alice").await;
    let payload = json!({"msg_type": 2, "attachments": [{"file_id": id(&drawing)}]});
    assert_eq!(send(&mut alice, GROUP, "svg", payload).await.code, 400);
    send_files(&mut alice, "svg7", 7, &[id(&drawing)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_announcements_are_refused() {
    let settings = [
        ("IM__FILES__BYTES_MAX", "6000000"),
        ("IM__FILES__TYPES", "image/*,text/plain"),
        ("IM__FILES__USER_UPLOADS_PER_DAY", "3"),
        ("IM__FILES__USER_BYTES_PER_DAY", "7000000"),
    ];
    let Some(files) = Files::start(Store::Folder, &settings).await else { return };
    let begin = async |user: &str, change: Value| {
        let mut body =
            json!({"conversation_id": GROUP, "name": "a.txt", "size": 1_000, "content_type": "text/plain"});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        files.http(0, user).call("POST", "/api/uploads", Some(&body)).await.unwrap().0
    };
    for (change, expected) in [
        (json!({"size": 0}), 400),
        (json!({"size": -1}), 400),
        (json!({"size": 6_000_001}), 413),
        (json!({"content_type": "application/pdf"}), 400),
        (json!({"content_type": "nonsense"}), 400),
        (json!({"name": 7}), 400),
        (json!({"conversation_id": "group_nowhere"}), 404),
        (json!({"conversation_id": "private_bob_dave"}), 403),
        (json!({"conversation_id": null}), 400),
    ] {
        assert_eq!(begin("alice", change.clone()).await, expected, "{change}");
    }
    assert_eq!(begin("carol", json!({})).await, 403, "a stranger");
    assert_eq!(begin("bob", json!({"size": 6_000_000})).await, 200);
    assert_eq!(begin("bob", json!({"size": 1_000_001})).await, 429, "the bytes of the day");
    for _ in 0..2 {
        assert_eq!(begin("bob", json!({"size": 1})).await, 200);
    }
    assert_eq!(begin("bob", json!({"size": 1})).await, 429, "the uploads of the day");
    // By content it is another type than by announcement, which is not taken here.
    let pdf = file("a", "text/plain", b"%PDF-1.7\n");
    let begun = files.begin("alice", Some(GROUP), &pdf).await;
    files.put(begun["url"].as_str().unwrap(), pdf.bytes).await;
    assert_eq!(files.complete("alice", id(&begun)).await.0, 400);
    for path in ["/api/uploads/x", "/api/uploads/..%2F..", "/api/files/0", "/api/files/%00"] {
        assert_eq!(files.http(0, "alice").refused("GET", path, None).await.unwrap(), 400, "{path}");
    }
    let unknown = format!("/api/files/{}", "0".repeat(32));
    assert_eq!(files.http(0, "alice").refused("GET", &unknown, None).await.unwrap(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_files_that_may_not_be_sent_are_refused() {
    let Some(files) = Files::start(Store::Folder, &[]).await else { return };
    let (mut alice, mut bob) = (connect(&files, 0, "alice").await, connect(&files, 1, "bob").await);
    let own = files.upload("alice", Some(GROUP), &text("a.txt", 100)).await;
    let picture_of = files.upload("alice", Some(GROUP), &picture("a.png", ImageFormat::Png, 9, 9)).await;
    let elsewhere = files.upload("alice", Some("private_alice_bob"), &text("b.txt", 100)).await;
    let begun = files.begin("alice", Some(GROUP), &text("c.txt", 100)).await;
    let named = |ids: &[&str]| ids.iter().map(|id| json!({"file_id": id})).collect::<Vec<_>>();
    let own_id = id(&own);
    for (n, payload) in [
        json!({"msg_type": 1, "content": "x", "attachments": named(&[own_id])}),
        json!({"msg_type": 100, "content": "x", "attachments": named(&[own_id])}),
        json!({"msg_type": 2, "attachments": named(&[own_id])}),
        json!({"msg_type": 7, "content": "x"}),
        json!({"msg_type": 7, "attachments": []}),
        json!({"msg_type": 7, "attachments": "x"}),
        json!({"msg_type": 7, "attachments": [own_id]}),
        json!({"msg_type": 7, "attachments": [{}]}),
        json!({"msg_type": 7, "attachments": [{"file_id": "../x"}]}),
        json!({"msg_type": 7, "attachments": named(&[own_id, own_id])}),
        json!({"msg_type": 7, "attachments": named(&[own_id; 11])}),
        json!({"msg_type": 7, "attachments": named(&[id(&elsewhere)])}),
        json!({"msg_type": 7, "attachments": named(&[id(&begun)])}),
        json!({"msg_type": 7, "attachments": named(&[&"0".repeat(32)])}),
        json!({"msg_type": 7, "attachments": named(&[own_id, id(&begun)])}),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = send(&mut alice, GROUP, &format!("w{n}"), payload.clone()).await;
        assert_eq!(answer.code, 400, "{payload}: {}", answer.payload);
    }
    let payload = json!({"msg_type": 7, "attachments": named(&[own_id])});
    assert_eq!(send(&mut bob, GROUP, "b1", payload.clone()).await.code, 400, "another user's file");
    // What a client says of a file does not count.
    let lie = json!({"msg_type": 2, "attachments": [{"file_id": id(&picture_of), "name": "x.exe", "size": 1, "width": 9_999}]});
    let answer = send(&mut alice, GROUP, "lie", lie.clone()).await;
    assert_eq!(answer.code, 0, "{}", answer.payload);
    let shown = crate::support::pulled(&files, "bob", answer.seq.unwrap()).await;
    assert_eq!(shown["attachments"], json!([picture_of]));
    // A retry, after its file is gone, too.
    let recall = json!({"msg_type": 3, "recall_seq": answer.seq});
    assert_eq!(send(&mut alice, GROUP, "r1", recall).await.code, 0);
    let again = send(&mut alice, GROUP, "lie", lie.clone()).await;
    assert_eq!((again.code, again.seq), (0, answer.seq));
    assert_eq!(send(&mut alice, GROUP, "late", lie).await.code, 400, "the file was recalled");
    // By HTTP as by the WebSocket.
    let path = format!("/api/conversations/{GROUP}/messages");
    let body = json!({"msg_id": "h1", "payload": payload});
    assert_eq!(files.http(0, "alice").call("POST", &path, Some(&body)).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_strangers_and_removed_members_expired_and_altered_ones_are_refused() {
    let Some(files) = Files::start(Store::Folder, &[("IM__FILES__LINKS_VALID_S", "60")]).await else {
        return;
    };
    let mut alice = connect(&files, 0, "alice").await;
    let sent = files.upload("alice", Some(GROUP), &text("a.txt", 100)).await;
    send_files(&mut alice, "m1", 7, &[id(&sent)]).await;
    let link = files.link("bob", id(&sent)).await.unwrap();
    assert!(files.bytes(&link).await.is_some());
    // One bit of each character.
    for at in 1..link.len() {
        let mut bytes = link.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(altered) = String::from_utf8(bytes) else { continue };
        if altered.contains(['#', ' ', '\\', '"', '<', '>', '^', '`', '{', '|', '}'])
            || altered.matches('?').count() != 1
        {
            // Another request than the one with this text.
            continue;
        }
        let status = files.get(&altered).await.status().as_u16();
        assert!(matches!(status, 400 | 403 | 404), "{altered}: {status}");
        if altered.starts_with("/files/") {
            assert_eq!(status, 403, "{altered}");
        }
    }
    // One of an hour ago, signed with the right key, as far as the time says.
    let (path, query) = link.split_once("?verify=").unwrap();
    let (time, signature) = query.split_once('-').unwrap();
    let old: u64 = time.parse().unwrap();
    assert_eq!(files.get(&format!("{path}?verify={}-{signature}", old - 7_200)).await.status(), 403);
    assert_eq!(files.get(path).await.status(), 403);

    assert!(files.link("carol", id(&sent)).await.is_none());
    let member = format!("/api/groups/{GROUP}/members/bob");
    files.http(0, "alice").ok("DELETE", &member, None).await.unwrap();
    assert!(files.link("bob", id(&sent)).await.is_none(), "removed members get no new links");
    // A newcomer who sees no message of before.
    let history = Some(json!({"history": "joining"}));
    files.http(0, "alice").ok("PATCH", &format!("/api/groups/{GROUP}"), history).await.unwrap();
    let members = format!("/api/groups/{GROUP}/members");
    files.http(0, "alice").ok("POST", &members, Some(json!({"user_ids": ["dave"]}))).await.unwrap();
    assert!(files.link("dave", id(&sent)).await.is_none());
    let later = files.upload("alice", Some(GROUP), &text("b.txt", 100)).await;
    send_files(&mut alice, "m2", 7, &[id(&later)]).await;
    assert!(files.link("dave", id(&later)).await.is_some());
    // What a user has cleared is hidden from it.
    files.http(0, "dave").ok("DELETE", &format!("/api/conversations/{GROUP}"), None).await.unwrap();
    assert!(files.link("dave", id(&later)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_every_call_says_which_setting_it_needs() {
    let Some(files) = Files::start(Store::Folder, &[("IM__FILES__STORE", "none")]).await else { return };
    let body = json!({"conversation_id": GROUP, "name": "a", "size": 1, "content_type": "text/plain"});
    let (status, answer) = files.http(0, "alice").call("POST", "/api/uploads", Some(&body)).await.unwrap();
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("files.store"), "{answer}");
    let mut alice = connect(&files, 0, "alice").await;
    let payload = json!({"msg_type": 7, "attachments": [{"file_id": "0".repeat(32)}]});
    assert_eq!(send(&mut alice, GROUP, "m1", payload).await.code, 400);
    let features = files.http(0, "alice").ok("GET", "/api", None).await.unwrap();
    assert!(!features["features"].as_array().unwrap().contains(&json!("files")));
}
