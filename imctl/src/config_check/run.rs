//! Runs the command.

use std::path::{Path, PathBuf};

use shared::config::{ConfigError, FileStoreKind, Files, Log};

use super::report::{Report, Severity, Wanted};
use super::stores;
use crate::context;
use crate::output::{Ending, Output};
use crate::text::{or_dash, printable};
use crate::warnings::Warnings;

/// Checks both configurations, and their stores unless `offline`.
pub(crate) async fn run(
    gateway: Option<&Path>,
    worker: Option<&Path>,
    offline: bool,
    output: Output,
) -> anyhow::Result<Ending> {
    let mut report = Report {
        gateway_file: context::gateway_file(gateway),
        worker_file: context::worker_file(worker),
        ..Report::default()
    };
    shared::tls::init();
    let mut wanted = Vec::new();
    match read_gateway(report.gateway_file.as_deref()) {
        Ok(found) => wanted.push(found),
        Err(error) => report.find(Severity::Error, "gateway", error),
    }
    match read_worker(report.worker_file.as_deref()) {
        Ok(found) => wanted.push(found),
        Err(error) => report.find(Severity::Error, "worker", error),
    }
    report.passed.extend(wanted.iter().map(|wanted| format!("the configuration of the {}", wanted.of)));
    if let [first, second] = &wanted[..] {
        if first.is_same(second) {
            wanted[0].of = "gateway and worker";
            wanted.truncate(1);
        } else {
            compare(&first.clone(), &second.clone(), &mut report);
        }
    }
    if offline {
        report.unknown.push("the stores: --offline was given".to_owned());
    } else {
        let warnings = Warnings::collect();
        for wanted in &wanted {
            stores::check(wanted, &warnings, &mut report).await;
        }
    }
    output.show(&report, text)?;
    let is_refused = report.findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(match (is_refused, report.unknown.is_empty() || offline) {
        (true, _) => Ending::Finding,
        (false, false) => Ending::Unknown,
        (false, true) => Ending::Good,
    })
}

fn read_gateway(file: Option<&Path>) -> Result<Wanted, ConfigError> {
    let config = gateway::config::Config::load(file)?;
    gateway::check_keys(&config.auth)?;
    check_log(&config.log)?;
    let gateway::config::Config { mysql, redis, amqp, shards, files, feed, .. } = config;
    Ok(Wanted { of: "gateway", mysql, redis, amqp, shards, files, feed })
}

fn read_worker(file: Option<&Path>) -> Result<Wanted, ConfigError> {
    let config = worker::config::Config::load(file)?;
    check_log(&config.log)?;
    let worker::config::Config { mysql, redis, amqp, shards, files, feed, .. } = config;
    Ok(Wanted { of: "worker", mysql, redis, amqp, shards, files, feed })
}

fn check_log(log: &Log) -> Result<(), ConfigError> {
    shared::telemetry::log_filter(log).map(drop)
}

/// Settings that all processes of a deployment share. Addresses may differ: each process may have its own proxy.
fn compare(gateway: &Wanted, worker: &Wanted, report: &mut Report) {
    for (key, one, other) in [
        ("amqp.prefix", gateway.amqp.prefix.clone(), worker.amqp.prefix.clone()),
        ("[files]", place_of_files(&gateway.files), place_of_files(&worker.files)),
        ("shards.count", or_dash(gateway.shards.count), or_dash(worker.shards.count)),
    ] {
        if one != other {
            let message = format!(
                "{key} is {one} for the gateway and {other} for the worker: they would not find each other"
            );
            report.find(Severity::Error, "gateway and worker", message);
        }
    }
    if gateway.feed.enabled != worker.feed.enabled {
        let on = if gateway.feed.enabled { "gateway" } else { "worker" };
        let message = format!(
            "feed.enabled is true for the {on} only: what the other one commits is missing in the change feed"
        );
        report.find(Severity::Error, "gateway and worker", message);
    }
}

fn place_of_files(files: &Files) -> String {
    match files.store {
        FileStoreKind::None => "none".to_owned(),
        FileStoreKind::Folder => format!("the folder {}", files.folder.display()),
        FileStoreKind::S3 => format!("the bucket {}", files.s3_bucket),
    }
}

fn text(report: &Report) -> String {
    let file = |file: &Option<PathBuf>| match file {
        Some(file) => file.display().to_string(),
        None => "none: defaults and environment".to_owned(),
    };
    let mut lines = vec![
        format!("gateway: {}", file(&report.gateway_file)),
        format!("worker: {}", file(&report.worker_file)),
    ];
    lines.extend(report.passed.iter().map(|passed| format!("ok: {}", printable(passed))));
    lines.extend(report.unknown.iter().map(|unknown| format!("unknown: {}", printable(unknown))));
    lines.extend(report.findings.iter().map(|finding| {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        format!("{severity}: {}: {}", finding.of, printable(&finding.message))
    }));
    lines.join("\n")
}
