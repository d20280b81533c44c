//! What `imctl config check` finds.

use std::path::PathBuf;

use serde::Serialize;
use shared::config::{Amqp, Feed, Files, Mysql, Redis, Shards};

/// What the check found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// The file that was read; `None`: only defaults and the environment.
    pub(super) gateway_file: Option<PathBuf>,
    pub(super) worker_file: Option<PathBuf>,
    pub(super) findings: Vec<Finding>,
    /// What was not checked, and why.
    pub(super) unknown: Vec<String>,
    /// What was checked without a finding.
    pub(super) passed: Vec<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// The process does not start, is not ready, or logs an error.
    Error,
    /// The process starts, and logs a warning.
    Warning,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Whose configuration: `gateway`, `worker` or both.
    pub(super) of: &'static str,
    pub(super) message: String,
}

impl Report {
    pub(super) fn find(&mut self, severity: Severity, of: &'static str, message: impl ToString) {
        let message = message.to_string();
        // Both configurations usually name the same stores.
        if !self.findings.iter().any(|found| found.message == message) {
            self.findings.push(Finding { severity, of, message });
        }
    }
}

/// The stores of one process.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) of: &'static str,
    pub(super) mysql: Mysql,
    pub(super) redis: Redis,
    pub(super) amqp: Amqp,
    pub(super) shards: Shards,
    pub(super) files: Files,
    pub(super) feed: Feed,
}

impl Wanted {
    /// Whether both name the same stores with the same settings.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let shown = |wanted: &Self| {
            let Self { mysql, redis, amqp, shards, files, feed, .. } = wanted;
            let urls =
                [&mysql.url, &redis.url, &amqp.url, &amqp.management_url].map(|url| url.expose().to_owned());
            (urls, format!("{mysql:?} {redis:?} {amqp:?} {shards:?} {files:?} {feed:?}"))
        };
        shown(self) == shown(other)
    }
}
