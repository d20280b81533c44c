//! Uploads to and downloads from the folder of a gateway, by turns with nginx on a folder of the same disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use serde_json::json;
use tokio::time::Instant;

use super::outcome::Outcome;
use super::scale::Scale;
use super::steady::as_f64;
use super::target::Target;
use testbed::client::{Http, http_base};
use testbed::stack::{Process, free_port, program_of_this_machine, wait_for};

/// Name, bytes of a file, and files.
const SIZES: [(&str, usize, usize); 2] = [("64 KiB", 65_536, 2_048), ("8 MiB", 8_388_608, 32)];
/// Clients at a time.
const CLIENTS: usize = 8;
const ROUNDS: usize = 3;
const MIB: f64 = 1_048_576.0;

/// One direction at one server.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    mib_per_second: f64,
    /// Of the server.
    us_per_mib: f64,
}

pub(super) async fn files(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let folder = target.system()?.logs().with_file_name("files");
    let nginx = Nginx::start(&folder).await?;
    if nginx.is_none() {
        println!("files: nginx is not installed: there is no comparison");
    }
    for (name, bytes, count) in SIZES {
        let count = scale.of(count).max(CLIENTS);
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let files =
                Files::begin(target, &format!("{name}.{round}").replace(' ', ""), bytes, count).await?;
            rounds.push(files.round(target, nginx.as_ref(), bytes).await?);
        }
        // The middle one of three, by throughput, of each column.
        let middle = |column: usize| -> Option<Rate> {
            let mut rates: Vec<Rate> = rounds.iter().filter_map(|round| round[column]).collect();
            rates.sort_by(|a, b| a.mib_per_second.total_cmp(&b.mib_per_second));
            rates.get(rates.len() / 2).copied()
        };
        for (column, what) in ["upload, gateway", "upload, nginx", "download, gateway", "download, nginx"]
            .into_iter()
            .enumerate()
        {
            if let Some(rate) = middle(column) {
                outcome.figure(&format!("{name}: {what}"), rate.mib_per_second, "MiB/s", None);
                outcome.figure("  processor time of the server", rate.us_per_mib, "us/MiB", None);
            }
        }
    }
    outcome.what = format!("{CLIENTS} clients, the middle of {ROUNDS} rounds, gateway and nginx by turns");
    Ok(outcome)
}

/// Files that are announced.
struct Files {
    http: Http,
    client: reqwest::Client,
    base: String,
    ids: Vec<String>,
    urls: Vec<String>,
}

impl Files {
    async fn begin(target: &Target, name: &str, bytes: usize, count: usize) -> anyhow::Result<Self> {
        let deployment = target.deployment();
        let base = http_base(deployment.gateway(0));
        let user = deployment.name(name);
        let http = Http::of_user(&base, &user);
        let conversation = format!("private_{user}_{user}");
        let mut begun = iter(0..count)
            .map(|n| {
                let body = json!({
                    "conversation_id": conversation, "name": format!("{n}.bin"), "size": bytes,
                    "content_type": "application/octet-stream",
                });
                let http = http.clone();
                async move { http.ok_when_allowed("POST", "/api/uploads", body).await }
            })
            .buffered(CLIENTS);
        let (mut ids, mut urls) = (Vec::new(), Vec::new());
        while let Some(begun) = begun.next().await {
            let begun = begun?;
            let text = |field: &str| begun[field].as_str().map(ToOwned::to_owned).context("no such field");
            ids.push(text("file_id")?);
            urls.push(format!("{base}{}", text("url")?));
        }
        drop(begun);
        Ok(Self { http, client: reqwest::Client::new(), base, ids, urls })
    }

    /// Uploads to the gateway and to nginx, downloads from the gateway and from nginx.
    async fn round(
        &self,
        target: &mut Target,
        nginx: Option<&Nginx>,
        bytes: usize,
    ) -> anyhow::Result<[Option<Rate>; 4]> {
        let body = bytes::Bytes::from(vec![7; bytes]);
        let volume = as_f64((bytes * self.ids.len()) as u64) / MIB;
        let mut rates = [None; 4];
        let before = gateways(target);
        let time = self.put(&self.urls, &body).await?;
        rates[0] = Some(rate(volume, time, gateways(target) - before));
        if let Some(nginx) = nginx {
            let urls: Vec<String> = self.ids.iter().map(|id| nginx.url(&format!("put/{id}"))).collect();
            let before = nginx.process.cpu();
            let time = self.put(&urls, &body).await?;
            rates[1] = Some(rate(volume, time, nginx.process.cpu() - before));
        }
        let links = self.complete().await?;
        let before = gateways(target);
        let time = self.get(&links, bytes).await?;
        rates[2] = Some(rate(volume, time, gateways(target) - before));
        if let Some(nginx) = nginx {
            let place = |id: &String| nginx.url(&format!("files/objects/{}/{id}", &id[id.len() - 2..]));
            let urls: Vec<String> = self.ids.iter().map(place).collect();
            let before = nginx.process.cpu();
            let time = self.get(&urls, bytes).await?;
            rates[3] = Some(rate(volume, time, nginx.process.cpu() - before));
        }
        Ok(rates)
    }

    async fn put(&self, urls: &[String], body: &bytes::Bytes) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut all = iter(urls)
            .map(|url| async move {
                let answer = self.client.put(url).body(body.clone()).send().await?;
                anyhow::ensure!(answer.status().is_success(), "PUT {url}: {}", answer.status());
                anyhow::Ok(())
            })
            .buffer_unordered(CLIENTS);
        while let Some(done) = all.next().await {
            done?;
        }
        Ok(begun.elapsed())
    }

    async fn get(&self, urls: &[String], bytes: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut all = iter(urls)
            .map(|url| async move {
                let mut answer = self.client.get(url).send().await?.error_for_status()?;
                let mut received = 0;
                while let Some(piece) = answer.chunk().await? {
                    received += piece.len();
                }
                anyhow::ensure!(received == bytes, "GET {url}: {received} bytes");
                anyhow::Ok(())
            })
            .buffer_unordered(CLIENTS);
        while let Some(done) = all.next().await {
            done?;
        }
        Ok(begun.elapsed())
    }

    /// Completes all uploads, and returns links to them.
    async fn complete(&self) -> anyhow::Result<Vec<String>> {
        let mut all = iter(&self.ids)
            .map(|id| async move {
                let path = format!("/api/uploads/{id}/complete");
                self.http.ok_when_allowed("POST", &path, json!({})).await
            })
            .buffer_unordered(CLIENTS);
        while let Some(done) = all.next().await {
            done?;
        }
        let mut links = Vec::new();
        for ids in self.ids.chunks(100) {
            let body = json!({"file_ids": ids});
            let answer = self.http.ok_when_allowed("POST", "/api/files/links", body).await?;
            let found = answer["links"].as_array().context("no links")?.iter();
            links.extend(found.filter_map(|link| Some(format!("{}{}", self.base, link["url"].as_str()?))));
        }
        anyhow::ensure!(links.len() == self.ids.len(), "{} links to {} files", links.len(), self.ids.len());
        Ok(links)
    }
}

fn gateways(target: &mut Target) -> Duration {
    target.used().get("gateways").copied().unwrap_or_default()
}

fn rate(mib: f64, time: Duration, used: Duration) -> Rate {
    Rate { mib_per_second: mib / time.as_secs_f64(), us_per_mib: used.as_secs_f64() * 1e6 / mib }
}

/// nginx with default settings on the folder.
struct Nginx {
    process: Process,
    port: u16,
}

impl Nginx {
    /// `None` if it is not installed.
    async fn start(files: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = program_of_this_machine("nginx") else { return Ok(None) };
        let folder = files.with_file_name("nginx");
        std::fs::create_dir_all(folder.join("put"))?;
        let port = free_port()?;
        let (config, log) = (folder.join("nginx.conf"), folder.join("nginx.log"));
        std::fs::write(&config, configuration(&folder, files, port))?;
        let process = Process::start("nginx", &program, &log, |command| {
            command.arg("-c").arg(&config).arg("-p").arg(&folder).arg("-e").arg(&log);
        })?;
        let nginx = Self { process, port };
        let url = nginx.url("");
        wait_for("nginx", Duration::from_secs(10), async || {
            reqwest::get(&url).await?;
            Ok(())
        })
        .await?;
        Ok(Some(nginx))
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

fn configuration(folder: &Path, files: &Path, port: u16) -> String {
    let folder = |name: &str| -> PathBuf { folder.join(name) };
    format!(
        "user root; worker_processes auto; daemon off; pid {};\nevents {{}}\nhttp {{ access_log off; sendfile on; tcp_nopush on; \
         client_max_body_size 1g; client_body_temp_path {}; proxy_temp_path {}; fastcgi_temp_path {}; uwsgi_temp_path {}; \
         scgi_temp_path {};\nserver {{ listen 127.0.0.1:{port};\nlocation /files/ {{ alias {}/; }}\n\
         location /put/ {{ alias {}/; dav_methods PUT; }} }} }}\n",
        folder("pid").display(),
        folder("body").display(),
        folder("proxy").display(),
        folder("fastcgi").display(),
        folder("uwsgi").display(),
        folder("scgi").display(),
        files.display(),
        folder("put").display()
    )
}
