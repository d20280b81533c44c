//! The checks of the stores, by the code of the processes. Nothing is made or changed.

use std::time::Duration;

use filestore::link::Variant;
use filestore::{FileStore, StoreError};
use shared::amqp::inspector::InspectError;
use shared::amqp::{Inspector, PolicyWatch, Topology};
use shared::config::{ConfigError, FileStoreKind};
use shared::health::Health;
use shared::message::FileId;
use shared::mysql::{self, ConnectError, Ping, Pool, inspection, ready, settings};
use shared::redis::RedisError;
use shared::redis::inspection::Inspection;
use shared::shard::ShardLayout;
use shared::shard_state::ShardState;

use super::report::{Report, Severity, Wanted};
use crate::warnings::Warnings;

/// Checks the stores of one process. `warnings` collects what the checks log.
pub(super) async fn check(wanted: &Wanted, warnings: &Warnings, report: &mut Report) {
    let shards = mysql(wanted, report).await;
    logged(warnings, wanted, report);
    redis(wanted, report).await;
    logged(warnings, wanted, report);
    rabbitmq(wanted, shards, warnings, report).await;
    files(wanted, report).await;
}

/// Adds what the checks logged. False if they logged nothing.
fn logged(warnings: &Warnings, wanted: &Wanted, report: &mut Report) -> bool {
    let lines = warnings.take();
    let is_any = !lines.is_empty();
    for line in lines {
        let severity = if line.is_error { Severity::Error } else { Severity::Warning };
        report.find(severity, wanted.of, line.text);
    }
    is_any
}

/// Returns the number of shards.
async fn mysql(wanted: &Wanted, report: &mut Report) -> ShardLayout {
    let configured = wanted.shards.checked().ok().flatten();
    let default = configured.unwrap_or(ShardLayout::DEFAULT);
    let pool = match mysql::connect(&wanted.mysql, Ping::Never, Duration::ZERO).await {
        Ok(pool) => pool,
        Err(ConnectError::Config(error)) => {
            report.find(Severity::Error, wanted.of, error);
            return default;
        }
        Err(error) => {
            unreachable(report, wanted, &error);
            return default;
        }
    };
    match schema(&pool, wanted, configured).await {
        Ok((passed, shards)) => {
            report.passed.push(passed);
            shards.unwrap_or(default)
        }
        Err(error) => {
            report.find(Severity::Error, wanted.of, format!("MySQL at {}: {error:#}", wanted.mysql.url));
            default
        }
    }
}

/// What is fine, and the number of shards, if it is stored.
async fn schema(
    pool: &Pool,
    wanted: &Wanted,
    configured: Option<ShardLayout>,
) -> anyhow::Result<(String, Option<ShardLayout>)> {
    let (url, version) = (&wanted.mysql.url, inspection::server_version(pool).await?);
    let migrations = mysql::migrations(pool).await?;
    let pending = migrations.iter().filter(|migration| !migration.is_applied).count();
    let passed = |schema: &str| format!("MySQL {version} at {url}, {schema}");
    if pending == migrations.len() {
        return Ok((passed("its schema is empty: the first process that starts makes the tables"), None));
    }
    ready::check(pool).await?;
    let stored = settings::shard_state(pool).await?.map(ShardState::main);
    let schema = match pending {
        0 => "its schema is up to date".to_owned(),
        pending => format!("its schema lacks {pending} migrations, which the next process that starts runs"),
    };
    let ignored = configured.zip(stored).filter(|(configured, stored)| configured.get() != stored.get());
    let ignored = ignored.map_or(String::new(), |(configured, stored)| {
        let (configured, stored) = (configured.get(), stored.get());
        format!("; shards.count = {configured} is ignored, because this deployment has {stored} shards")
    });
    Ok((passed(&(schema + &ignored)), stored))
}

async fn redis(wanted: &Wanted, report: &mut Report) {
    let client = match shared::redis::connect(&wanted.redis, Duration::ZERO).await {
        Ok(client) => client,
        Err(RedisError::Config(error)) => return report.find(Severity::Error, wanted.of, error),
        Err(error) => return unreachable(report, wanted, &error),
    };
    match Inspection::new(client.clone()).server_version().await {
        Ok(version) => report.passed.push(format!("Redis {version} at {}", wanted.redis.url)),
        Err(error) => report.unknown.push(format!("the version of Redis: {error}")),
    }
    client.close().await;
}

/// The folder or the bucket. Nothing is written.
async fn files(wanted: &Wanted, report: &mut Report) {
    let files = &wanted.files;
    match files.store {
        FileStoreKind::None => {}
        FileStoreKind::Folder if files.folder.is_dir() => {
            report.passed.push(format!("the folder of files {}", files.folder.display()));
        }
        FileStoreKind::Folder => report.passed.push(format!(
            "the folder of files {}, which the first process that starts makes",
            files.folder.display()
        )),
        FileStoreKind::S3 => {
            let asked = async {
                let Some(store) = FileStore::open(files)? else { return Ok(()) };
                store.size(&FileId::generate(), Variant::Original).await.map(drop)
            };
            match asked.await {
                Ok(()) => {
                    report.passed.push(format!("the bucket of files {} at {}", files.s3_bucket, files.s3_url))
                }
                Err(error @ StoreError::Config(_)) => report.find(Severity::Error, wanted.of, error),
                Err(error) => unreachable(report, wanted, &error),
            }
        }
    }
}

async fn rabbitmq(wanted: &Wanted, shards: ShardLayout, warnings: &Warnings, report: &mut Report) {
    let topology = Topology::new(&wanted.amqp.prefix, shards);
    match queues(wanted, topology.clone()).await {
        Ok(missing) if missing.is_empty() => {
            report.passed.push(format!("RabbitMQ at {}, all queues exist", wanted.amqp.url));
        }
        Ok(missing) => report.passed.push(format!(
            "RabbitMQ at {}, a process that starts makes the queues {}",
            wanted.amqp.url,
            missing.join(" ")
        )),
        Err(error @ InspectError::Broker { .. }) => return unreachable(report, wanted, &error),
        Err(error) => report.find(Severity::Error, wanted.of, error),
    }
    if let Err(error) = policies(wanted, topology, warnings, report).await {
        report.find(Severity::Error, wanted.of, error);
    }
}

async fn queues(wanted: &Wanted, topology: Topology) -> Result<Vec<String>, InspectError> {
    let inspector = Inspector::open(&wanted.amqp, topology, "imctl").await?;
    let missing = inspector.check_queues().await;
    inspector.close().await;
    missing
}

/// A harmful policy is logged by the watch as an error, and one that cannot be read as a warning.
async fn policies(
    wanted: &Wanted,
    topology: Topology,
    warnings: &Warnings,
    report: &mut Report,
) -> Result<(), ConfigError> {
    if wanted.amqp.management_url.expose().is_empty() {
        report.find(
            Severity::Warning,
            wanted.of,
            "amqp.management_url is not set: policies of RabbitMQ that delete messages are not noticed",
        );
        return Ok(());
    }
    let mut watch = PolicyWatch::new(&wanted.amqp, topology, &Health::new())?;
    if watch.look().await {
        report.passed.push("the policies of RabbitMQ".to_owned());
    } else if !logged(warnings, wanted, report) {
        // The management API collects them every few seconds.
        report
            .unknown
            .push("the policies of RabbitMQ, which its management API does not show yet".to_owned());
    }
    Ok(())
}

/// A process waits for a store at its start, so this is an error only if the store stays away.
fn unreachable(report: &mut Report, wanted: &Wanted, error: &dyn std::error::Error) {
    let error = shared::error_text::error_line(error);
    let unknown = format!("{}: {error}", wanted.of);
    if !report.unknown.contains(&unknown) {
        report.unknown.push(unknown);
    }
}
