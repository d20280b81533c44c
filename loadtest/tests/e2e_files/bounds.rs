//! What uploads and pictures may take.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use image::ImageFormat;
use serde_json::{Value, json};
use testbed::stack::Service;

use crate::support::{File, Files, GROUP, Store, TIMEOUT, id, picture};

/// Before a call that was refused is repeated.
const PAUSE: Duration = Duration::from_millis(500);

/// What a process may take more at its peak in a thousand uploads of together 1,000 MB, in MiB. Most of them wait for their
/// turn, each with some 200 KiB of its bytes in a buffer of its connection.
const UPLOADS_MIB_MAX: u64 = 400;
/// What a worker may take more for pictures that are not decoded.
const PICTURES_MIB_MAX: u64 = 200;
/// Of each of them.
const UPLOAD_BYTES: usize = 1_000_000;

fn memory_mib(service: &mut Service) -> u64 {
    let id = service.process().unwrap().id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_uploads_at_once_take_bounded_memory() {
    // All come from one address.
    let settings =
        [("IM__LIMITS__ADDRESS_PENDING_CONNECTIONS_MAX", "0"), ("IM__LIMITS__ADDRESS_CALLS_AT_ONCE", "0")];
    let Some(mut files) = Files::start(Store::Folder, &settings).await else { return };
    let before = [memory_mib(files.system.gateway(1)), memory_mib(files.system.worker(0))];
    let mut file = picture("a.jpg", ImageFormat::Jpeg, 1_200, 900);
    // A valid picture with something behind its end.
    file.bytes.resize(UPLOAD_BYTES, 0);
    let all = iter(0..1_000).map(|_| upload_until_taken(&files, &file)).buffer_unordered(1_000);
    let ids: Vec<String> = all.collect().await;
    assert_eq!(ids.len(), 1_000);
    let after = [memory_mib(files.system.gateway(1)), memory_mib(files.system.worker(0))];
    for (before, after) in before.into_iter().zip(after) {
        assert!(after < before + UPLOADS_MIB_MAX, "{before} MiB before, {after} MiB after");
    }
}

/// As a client does that is told to wait, or whose connection is closed: a gateway that refuses before it has read the body
/// closes it, and the client may not see the answer.
async fn upload_until_taken(files: &Files, file: &File) -> String {
    let body = json!({
        "conversation_id": GROUP, "name": file.name, "size": file.bytes.len(), "content_type": file.content_type,
    });
    let begun =
        until_taken(async || files.http(0, "alice").call("POST", "/api/uploads", Some(&body)).await).await;
    let url = begun["url"].as_str().unwrap();
    until_taken(async || Ok((files.try_put(url, file.bytes.clone()).await?, Value::Null))).await;
    let path = format!("/api/uploads/{}/complete", id(&begun));
    until_taken(async || files.http(1, "alice").call("POST", &path, None).await).await;
    id(&begun).to_owned()
}

async fn until_taken(call: impl AsyncFn() -> anyhow::Result<(u16, Value)>) -> Value {
    let until = Instant::now() + 3 * TIMEOUT;
    loop {
        match call().await {
            Ok((200, answer)) => return answer,
            Ok((429 | 503, _)) | Err(_) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_are_bombs_or_broken_get_no_small_picture_and_harm_nobody() {
    let Some(mut files) = Files::start_with(Store::Folder, &[], 1).await else { return };
    let before = memory_mib(files.system.worker(0));
    // 50,000 by 50,000 pixels in a few hundred kilobytes.
    let bomb = File { name: "bomb.png", content_type: "image/png", bytes: bomb(50_000) };
    // Deflate makes at most a thousandth of it.
    assert!(bomb.bytes.len() < 500_000, "{}", bomb.bytes.len());
    let mut broken = picture("broken.png", ImageFormat::Png, 300, 300);
    let half = broken.bytes.len() / 2;
    broken.bytes.truncate(half);
    for file in [bomb, broken] {
        let attachment = files.upload("alice", Some(GROUP), &file).await;
        assert!(attachment.get("thumbhash").is_none(), "{attachment}");
        let thumb = files.links("alice", &[id(&attachment)], "thumb").await.pop().unwrap();
        assert_eq!(files.bytes(&thumb).await.unwrap(), file.bytes, "the original instead");
    }
    let after = memory_mib(files.system.worker(0));
    assert!(after < before + PICTURES_MIB_MAX, "{before} MiB before, {after} MiB after");
    // The worker goes on.
    let right = files.upload("alice", Some(GROUP), &picture("a.png", ImageFormat::Png, 30, 30)).await;
    assert!(right["thumbhash"].is_string(), "{right}");
}

/// A PNG of `side` by `side` black pixels of one bit, compressed as far as it goes.
fn bomb(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().unwrap();
    let row = side.div_ceil(8) as usize;
    writer.write_image_data(&vec![0; row * side as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}
