//! The life of a file: uploaded, sent, read, forwarded, recalled, removed.

use std::time::{Duration, Instant};

use image::ImageFormat;
use serde_json::{Value, json};
use testbed::client::Packet;

use crate::support::{
    File, Files, GROUP, Store, TIMEOUT, assert_safe, connect, id, picture, pulled, send, send_files, text,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_read_and_recalled_with_a_folder() {
    life(Store::Folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_read_and_recalled_with_an_s3_server() {
    life(Store::S3).await;
}

async fn life(store: Store) {
    let Some(files) = Files::start(store, &[]).await else { return };
    let (mut alice, mut bob) = (connect(&files, 0, "alice").await, connect(&files, 1, "bob").await);
    let file = picture("../K\u{f6}ln \u{202e}gnp.png", ImageFormat::Png, 800, 600);
    let picture_of = files.upload("alice", Some(GROUP), &file).await;
    let expected = json!({"name": "K\u{f6}ln gnp.png", "size": file.bytes.len(), "content_type": "image/png", "width": 800, "height": 600});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&picture_of[field], value, "{picture_of}");
    }
    assert!(picture_of["thumbhash"].is_string(), "{picture_of}");
    let again = files.complete("alice", id(&picture_of)).await;
    assert_eq!(again, (200, picture_of.clone()), "completing again gives the same");

    // Nobody else sees it before it is sent.
    assert_eq!(files.links("bob", &[id(&picture_of)], "original").await, [""; 0]);
    let document = files.upload("alice", Some(GROUP), &text("notes.txt", 100_000)).await;
    let seq = send_files(&mut alice, "m1", 2, &[id(&picture_of)]).await;
    send_files(&mut alice, "m2", 7, &[id(&document), id(&picture_of)]).await;
    let pushed = bob.wait_for(|packet| packet.cmd == 5 && has(packet, "m1")).await.unwrap();
    assert_eq!(of(&pushed, "m1")["attachments"], json!([picture_of]));
    assert_eq!(pulled(&files, "bob", seq).await["attachments"], json!([picture_of]));

    // Links, for members only.
    let link = files.link("bob", id(&picture_of)).await.unwrap();
    assert_eq!(files.bytes(&link).await.as_ref(), Some(&file.bytes));
    assert!(files.link("carol", id(&picture_of)).await.is_none());
    let path = format!("/api/files/{}", id(&picture_of));
    assert_eq!(files.http(0, "carol").refused("GET", &path, None).await.unwrap(), 403);
    let redirect = files.get(&format!("{path}?user_id=bob&size=thumb")).await;
    assert_eq!(redirect.status(), 302);
    let thumb = redirect.headers()["location"].to_str().unwrap().to_owned();
    let small = image::load_from_memory(&files.bytes(&thumb).await.unwrap()).unwrap();
    assert_eq!((small.width(), small.height()), (320, 240));
    assert_safe(&files, store, &link, "inline").await;
    let saved = files.link("bob", id(&document)).await.unwrap();
    assert_safe(&files, store, &saved, "attachment").await;
    let part = files.get_with(&saved, &[("range", "bytes=16-31")]).await;
    assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "0123456789abcde\n"));

    forward(&files, &picture_of, &file).await;

    // A recall of one of two messages, and then of both.
    let answer = send(&mut alice, GROUP, "r1", json!({"msg_type": 3, "recall_seq": seq})).await;
    assert_eq!(answer.code, 0, "{}", answer.payload);
    assert!(pulled(&files, "bob", seq).await.get("attachments").is_none());
    assert!(files.bytes(&link).await.is_some(), "another message carries it");
    let second = pulled(&files, "bob", seq + 1).await;
    let answer = send(&mut alice, GROUP, "r2", json!({"msg_type": 3, "recall_seq": second["seq"]})).await;
    assert_eq!(answer.code, 0, "{}", answer.payload);
    // Not even its uploader gets a link; the bytes stay, since a copy has them.
    assert!(files.link("alice", id(&picture_of)).await.is_none());
    assert!(files.link("bob", id(&document)).await.is_none());
    files.wait_until_gone("alice", id(&document), &saved).await;
    assert!(files.bytes(&link).await.is_some(), "a forwarded file has the same bytes");
    nothing_is_left(&files, &[id(&picture_of), id(&document)]).await;
}

fn has(packet: &Packet, msg_id: &str) -> bool {
    packet.payload.as_array().is_some_and(|all| all.iter().any(|message| message["msg_id"] == msg_id))
}

fn of(packet: &Packet, msg_id: &str) -> Value {
    let all = packet.payload.as_array().unwrap();
    all.iter().find(|message| message["msg_id"] == msg_id).unwrap().clone()
}

/// Bob sends alice's picture to a private chat.
async fn forward(files: &Files, attachment: &Value, file: &File) {
    let path = format!("/api/files/{}/copy", id(attachment));
    let body = Some(json!({"conversation_id": "private_bob_dave"}));
    assert_eq!(files.http(0, "dave").refused("POST", &path, body.clone()).await.unwrap(), 403);
    let copy = files.http(0, "bob").ok("POST", &path, body).await.unwrap();
    assert_ne!(id(&copy), id(attachment));
    assert_eq!((&copy["size"], &copy["thumbhash"]), (&attachment["size"], &attachment["thumbhash"]));
    let mut bob = connect(files, 0, "bob").await;
    let payload = json!({"msg_type": 2, "attachments": [{"file_id": id(&copy)}]});
    let answer = send(&mut bob, "private_bob_dave", "f1", payload).await;
    assert_eq!(answer.code, 0, "{}", answer.payload);
    let link = files.link("dave", id(&copy)).await.unwrap();
    assert_eq!(files.bytes(&link).await.as_ref(), Some(&file.bytes));
}

/// Waits until the rows of removed files are gone.
async fn nothing_is_left(files: &Files, ids: &[&str]) {
    let pool = sqlx::MySqlPool::connect(&files.system.urls.mysql).await.unwrap();
    let until = Instant::now() + TIMEOUT;
    for id in ids {
        loop {
            let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM file WHERE file_id = ?")
                .bind(*id)
                .fetch_one(&pool)
                .await
                .unwrap();
            if left == 0 {
                break;
            }
            assert!(Instant::now() < until, "the row of {id} is still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let extra = format!("%{id}%");
        let shown: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM timeline_message WHERE extra LIKE ?")
            .bind(extra)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(shown, 0, "a recalled message still names {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_goes_on_where_it_was_cut_with_a_folder() {
    parts(Store::Folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_goes_on_where_it_was_cut_with_an_s3_server() {
    parts(Store::S3).await;
}

async fn parts(store: Store) {
    let Some(files) = Files::start(store, &[("IM__FILES__PART_BYTES", "5242880")]).await else { return };
    let file = text("large.txt", 12_000_000);
    let begun = files.begin("alice", Some(GROUP), &file).await;
    assert_eq!((&begun["part_size"], &begun["part_count"]), (&json!(5_242_880), &json!(3)));
    let upload = format!("/api/uploads/{}", id(&begun));
    let alice = files.http(0, "alice");
    let numbers = Some(json!({"numbers": [1, 2, 3]}));
    let addresses = alice.ok("POST", &format!("{upload}/parts"), numbers).await.unwrap();
    let url = |n: usize| addresses["parts"][n]["url"].as_str().unwrap().to_owned();
    let part = |n: usize| file.bytes[n * 5_242_880..file.bytes.len().min((n + 1) * 5_242_880)].to_vec();
    for n in [2, 0] {
        assert!(matches!(files.put(&url(n), part(n)).await, 200..=204));
    }
    // Cut off in the second part, and of a wrong length.
    assert!(files.put(&url(1), part(2)).await >= 400);
    let state = files.http(1, "alice").ok("GET", &upload, None).await.unwrap();
    assert_eq!((&state["received"], &state["completed"]), (&json!([1, 3]), &json!(false)));
    let (status, answer) = files.complete("alice", id(&begun)).await;
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("missing: 2"), "{answer}");
    let again = alice.ok("POST", &format!("{upload}/parts"), Some(json!({"numbers": [2]}))).await.unwrap();
    assert!(matches!(files.put(again["parts"][0]["url"].as_str().unwrap(), part(1)).await, 200..=204));
    let (status, attachment) = files.complete("alice", id(&begun)).await;
    assert_eq!(status, 200, "{attachment}");
    assert_eq!(files.complete("alice", id(&begun)).await, (200, attachment.clone()));
    let link = files.link("alice", id(&attachment)).await.unwrap();
    assert_eq!(files.bytes(&link).await, Some(file.bytes.clone()));
    // The addresses of the upload change nothing any more.
    files.put(&url(0), part(2)).await;
    assert_eq!(files.bytes(&link).await, Some(file.bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_completed_or_sent_goes_with_a_folder() {
    orphans(Store::Folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_completed_or_sent_goes_with_an_s3_server() {
    orphans(Store::S3).await;
}

async fn orphans(store: Store) {
    let settings = [("IM__FILES__PART_BYTES", "5242880")];
    let Some(files) = Files::start(store, &settings).await else { return };
    let never_sent = files.upload("alice", Some(GROUP), &text("a.txt", 1_000)).await;
    let sent = files.upload("alice", Some(GROUP), &text("b.txt", 1_000)).await;
    let begun = files.begin("alice", Some(GROUP), &text("c.txt", 1_000)).await;
    files.put(begun["url"].as_str().unwrap(), vec![b'x'; 1_000]).await;
    let in_parts = files.begin("alice", Some(GROUP), &text("d.txt", 6_000_000)).await;
    let mut alice = connect(&files, 0, "alice").await;
    send_files(&mut alice, "m1", 7, &[id(&sent)]).await;
    let link = files.link("alice", id(&never_sent)).await.unwrap();
    // As if a day had passed.
    let pool = sqlx::MySqlPool::connect(&files.system.urls.mysql).await.unwrap();
    sqlx::query("UPDATE file SET sweep_at = 1 WHERE sweep_at IS NOT NULL").execute(&pool).await.unwrap();
    files.wait_until_gone("alice", id(&never_sent), &link).await;
    nothing_is_left(&files, &[id(&begun), id(&in_parts)]).await;
    assert_eq!(files.complete("alice", id(&begun)).await.0, 404);
    let link = files.link("alice", id(&sent)).await.unwrap();
    assert_eq!(files.bytes(&link).await.unwrap().len(), 1_000);
    // A dropped upload goes at once.
    let dropped = files.begin("alice", Some(GROUP), &text("e.txt", 1_000)).await;
    let path = format!("/api/uploads/{}", id(&dropped));
    assert_eq!(files.http(0, "bob").refused("DELETE", &path, None).await.unwrap(), 403);
    files.http(0, "alice").ok("DELETE", &path, None).await.unwrap();
    assert_eq!(files.http(0, "alice").refused("GET", &path, None).await.unwrap(), 404);
    nothing_is_left(&files, &[id(&dropped)]).await;
    let objects: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM file_object").fetch_one(&pool).await.unwrap();
    assert_eq!(objects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn avatars_are_seen_by_everyone_and_go_when_nobody_shows_them() {
    let Some(files) = Files::start(Store::Folder, &[]).await else { return };
    let avatar = files.upload("alice", None, &picture("me.jpg", ImageFormat::Jpeg, 500, 500)).await;
    let alice = files.http(0, "alice");
    let set = |avatar: Value| Some(json!({"avatar": avatar}));
    let profile = alice.ok("PATCH", "/api/users/me", set(avatar["file_id"].clone())).await.unwrap();
    assert_eq!(profile["avatar"], avatar["file_id"]);
    let group = format!("/api/groups/{GROUP}");
    alice.ok("PATCH", &group, set(avatar["file_id"].clone())).await.unwrap();
    let shown = files.http(1, "bob").ok("GET", &group, None).await.unwrap();
    assert_eq!(shown["avatar"], avatar["file_id"]);
    let link = files.links("stranger", &[id(&avatar)], "thumb").await.pop().unwrap();
    assert!(files.bytes(&link).await.is_some());

    let sent = files.upload("alice", Some(GROUP), &picture("a.png", ImageFormat::Png, 9, 9)).await;
    let of_bob = files.upload("bob", None, &picture("b.png", ImageFormat::Png, 9, 9)).await;
    for wrong in
        [sent["file_id"].clone(), of_bob["file_id"].clone(), json!("0".repeat(32)), json!("x"), json!(7)]
    {
        assert_eq!(
            alice.refused("PATCH", "/api/users/me", set(wrong.clone())).await.unwrap(),
            400,
            "{wrong}"
        );
        assert_eq!(alice.refused("PATCH", &group, set(wrong)).await.unwrap(), 400);
    }
    // No message carries an avatar.
    let mut client = connect(&files, 0, "alice").await;
    let payload = json!({"msg_type": 2, "attachments": [{"file_id": id(&avatar)}]});
    assert_eq!(send(&mut client, GROUP, "m1", payload).await.code, 400);

    alice.ok("PATCH", "/api/users/me", set(Value::Null)).await.unwrap();
    let pool = sqlx::MySqlPool::connect(&files.system.urls.mysql).await.unwrap();
    let uses = async || -> (u32, bool) {
        let query = sqlx::query_as("SELECT avatars, sweep_at IS NOT NULL FROM file WHERE file_id = ?");
        query.bind(id(&avatar)).fetch_one(&pool).await.unwrap()
    };
    assert_eq!(uses().await, (1, false));
    alice.ok("PATCH", &group, set(Value::Null)).await.unwrap();
    assert_eq!(uses().await, (0, true));
    sqlx::query("UPDATE file SET sweep_at = 1 WHERE file_id = ?")
        .bind(id(&avatar))
        .execute(&pool)
        .await
        .unwrap();
    files.wait_until_gone("alice", id(&avatar), &link).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_leaves_its_picture_to_another_one() {
    let Some(mut files) = Files::start_with(Store::Folder, &[], 1).await else { return };
    let file = picture("large.png", ImageFormat::Png, 3_000, 3_000);
    let begun = files.begin("alice", Some(GROUP), &file).await;
    assert!(matches!(files.put(begun["url"].as_str().unwrap(), file.bytes.clone()).await, 200..=204));
    let completing = {
        let (http, path) = (files.http(1, "alice"), format!("/api/uploads/{}/complete", id(&begun)));
        tokio::spawn(async move { http.call("POST", &path, None).await })
    };
    let pool = sqlx::MySqlPool::connect(&files.system.urls.mysql).await.unwrap();
    let until = Instant::now() + TIMEOUT;
    let attempts = async || -> u8 {
        sqlx::query_scalar("SELECT job_attempts FROM file_object").fetch_one(&pool).await.unwrap()
    };
    while attempts().await == 0 {
        assert!(Instant::now() < until, "no worker has begun");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    files.system.worker(0).kill();
    // Until then the original is there.
    let (status, attachment) = completing.await.unwrap().unwrap();
    assert_eq!(status, 200, "{attachment}");
    // As if the time of the killed worker were over.
    sqlx::query("UPDATE file_object SET job_due = 1 WHERE job_due IS NOT NULL").execute(&pool).await.unwrap();
    files.system.worker(0).start_again().await.unwrap();
    let until = Instant::now() + TIMEOUT;
    loop {
        let (_, attachment) = files.complete("alice", id(&begun)).await;
        if attachment["thumbhash"].is_string() {
            break;
        }
        assert!(Instant::now() < until, "nobody has made the small picture");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_removed_from_originals_where_that_is_set() {
    let Some(files) = Files::start(Store::Folder, &[("IM__FILES__STRIP_METADATA", "true")]).await else {
        return;
    };
    const PLACE: &[u8] = b"48.1371N 11.5754E";
    let mut file = picture("photo.jpg", ImageFormat::Jpeg, 64, 32);
    // After the start: a comment, and EXIF with the orientation 6 (turned by 90 degrees).
    let exif = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut comment = vec![0xff, 0xfe, 0, u8::try_from(PLACE.len() + 2).unwrap()];
    comment.extend(PLACE);
    file.bytes.splice(2..2, exif.iter().copied().chain(comment));
    let has_place = |bytes: &[u8]| bytes.windows(PLACE.len()).any(|window| window == PLACE);
    assert!(has_place(&file.bytes));
    let attachment = files.upload("alice", Some(GROUP), &file).await;
    assert_eq!((&attachment["width"], &attachment["height"]), (&json!(32), &json!(64)));
    for size in ["original", "thumb"] {
        let link = files.links("alice", &[id(&attachment)], size).await.pop().unwrap();
        let bytes = files.bytes(&link).await.unwrap();
        assert!(!has_place(&bytes), "{size}");
        if size == "original" {
            assert_eq!(attachment["size"], bytes.len());
        }
    }
}
