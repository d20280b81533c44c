//! What operators do: a CDN in front, and the comparison of database and store.

use std::path::Path;

use image::ImageFormat;
use serde_json::{Value, json};

use crate::support::{Files, GROUP, Store, assert_safe, id, picture, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_cdn_gets_files_of_an_s3_server_from_the_gateways() {
    let settings = [
        ("IM__FILES__CDN_BASE_URL", "https://cdn.example/"),
        ("IM__FILES__LINKS_KEY", "a key of links, long enough for it"),
    ];
    let Some(files) = Files::start(Store::S3, &settings).await else { return };
    let file = text("a.txt", 1_000_000);
    let sent = files.upload("alice", Some(GROUP), &file).await;
    let link = files.link("alice", id(&sent)).await.unwrap();
    // What the CDN asks its origin for.
    let path = link.strip_prefix("https://cdn.example").unwrap();
    assert_eq!(files.bytes(path).await, Some(file.bytes));
    assert_safe(&files, Store::Folder, path, "attachment").await;
    let cached = files.get(path).await.headers()["cache-control"].to_str().unwrap().to_owned();
    assert!(cached.contains("s-maxage=300"), "{cached}");
    let part = files.get_with(path, &[("range", "bytes=-16")]).await;
    assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "0123456789abcde\n"));
    let altered = path.replacen("a.txt", "b.txt", 1);
    assert_eq!(files.get(&altered).await.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn imctl_finds_what_the_database_or_the_folder_lacks() {
    let Some(files) = Files::start(Store::Folder, &[]).await else { return };
    let folder = files.system.logs().with_file_name("files");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(id(&files.upload("alice", Some(GROUP), &text("a.txt", 1_000)).await).to_owned());
    }
    let picture_id =
        id(&files.upload("alice", Some(GROUP), &picture("a.png", ImageFormat::Png, 400, 400)).await)
            .to_owned();
    let verify = || verify(&files, &folder);
    let (code, report) = verify();
    assert_eq!((code, &report["files"], &report["findings"]), (0, &json!(4), &json!([])));
    let place = |kind: &str, id: &str| folder.join(kind).join(&id[30..]).join(id);
    std::fs::remove_file(place("objects", &ids[0])).unwrap();
    std::fs::write(place("objects", &ids[1]), "short").unwrap();
    std::fs::remove_file(place("thumbs", &picture_id)).unwrap();
    let unknown = "f".repeat(32);
    std::fs::create_dir_all(place("objects", &unknown).parent().unwrap()).unwrap();
    std::fs::write(place("objects", &unknown), "nobody's").unwrap();
    let (code, report) = verify();
    let mut found: Vec<(&str, &str)> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["code"].as_str().unwrap(), found["object_id"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("missing", ids[0].as_str()),
        ("missing_thumb", &picture_id),
        ("size", &ids[1]),
        ("unknown", &unknown),
    ];
    assert_eq!((code, found.as_slice()), (1, expected.as_slice()));
}

/// The exit code and the report of `imctl files verify`.
fn verify(files: &Files, folder: &Path) -> (i32, Value) {
    let mut command = files.system.imctl().unwrap();
    let output = command
        .args(["--json", "files", "verify"])
        .env("IM__FILES__STORE", "folder")
        .env("IM__FILES__FOLDER", folder)
        .env("IM__FILES__LINKS_KEY", "x".repeat(32))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{:?}", output.stderr));
    (output.status.code().unwrap(), report)
}
