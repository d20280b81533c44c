//! The worker as a process of its own: what belongs to a whole process (metrics, log lines, signals).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::sharing::{expect_everywhere, get, publish_to_all};
use crate::support::{Ends, eventually};
use worker::config::Config;

/// A worker process that logs JSON into a file. Killed when dropped.
struct WorkerProcess {
    child: Child,
    log: PathBuf,
}

impl WorkerProcess {
    /// Starts it, and waits until it can serve.
    async fn start(settings: &Config, log: &Path) -> Self {
        let output = std::fs::File::create(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_worker"))
            .env("IM__MYSQL__URL", settings.mysql.url.expose())
            .env("IM__REDIS__URL", settings.redis.url.expose())
            .env("IM__AMQP__URL", settings.amqp.url.expose())
            .env("IM__AMQP__PREFIX", &settings.amqp.prefix)
            .env("IM__SHARDS__COUNT", settings.shards.count.unwrap().to_string())
            .env("IM__OPS__ADDRESS", "127.0.0.1:0")
            .env("IM__LOG__FORMAT", "json")
            .stdout(Stdio::from(output.try_clone().unwrap()))
            .stderr(Stdio::from(output))
            .spawn()
            .unwrap();
        let process = Self { child, log: log.to_owned() };
        eventually("the worker is ready", async || {
            let Some(address) = process.ops_address() else { return Err("not started".to_owned()) };
            let ready = get(address, "/readyz").await;
            if ready.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(ready) }
        })
        .await;
        process
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        // The last line may not be complete yet.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn ops_address(&self) -> Option<SocketAddr> {
        self.lines().iter().find_map(|line| line["ops_address"].as_str()?.parse().ok())
    }

    fn has_logged(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line["message"].as_str().is_some_and(|message| message.contains(text)))
    }

    /// SIGTERM, and how it ended.
    async fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        eventually("the worker's end", async || self.child.try_wait().unwrap().ok_or("it runs")).await
    }

    /// Lines that an operator should look at, apart from statements that are slow because the machine is busy.
    fn warnings(&self) -> Vec<String> {
        let is_slow = |line: &serde_json::Value| line.to_string().contains("slow statement");
        let is_bad = |line: &&serde_json::Value| {
            matches!(line["level"].as_str(), Some("WARN" | "ERROR")) && !is_slow(line)
        };
        self.lines().iter().filter(is_bad).map(ToString::to_string).collect()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_counts_what_it_commits_and_logs_no_warning_from_start_to_stop() {
    let (ends, folder) = (Ends::new().await, tempfile::tempdir().unwrap());
    let mut worker = WorkerProcess::start(&ends.settings, &folder.path().join("worker.log")).await;
    publish_to_all(&ends, 1).await;
    expect_everywhere(&ends, 1).await;
    // A message is visible in the database shortly before it is counted.
    eventually("24 counted messages", async || {
        let metrics = get(worker.ops_address().unwrap(), "/metrics").await;
        if metrics.contains("im_worker_messages_committed_total 24") { Ok(()) } else { Err(metrics) }
    })
    .await;
    assert!(worker.terminate().await.success());
    assert_eq!(worker.warnings(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_shard_says_that_it_stands_by() {
    let (mut ends, folder) = (Ends::new().await, tempfile::tempdir().unwrap());
    ends.settings.shards.count = Some(1);
    let log = |n: usize| folder.path().join(format!("worker{n}.log"));
    let mut first = WorkerProcess::start(&ends.settings, &log(1)).await;
    let mut second = WorkerProcess::start(&ends.settings, &log(2)).await;
    eventually("one of them standing by", async || {
        match (first.has_logged("standing by"), second.has_logged("standing by")) {
            (true, false) | (false, true) => Ok(()),
            both => Err(both),
        }
    })
    .await;
    assert!(first.terminate().await.success());
    assert!(second.terminate().await.success());
    assert_eq!((first.warnings(), second.warnings()), (vec![], vec![]));
}
