//! Looks at the stores and the processes. What cannot be looked at is named, and the rest is looked at all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::processes::{Fetched, Processes};
use shared::amqp::inspector;
use shared::ids::unix_millis;
use shared::metrics::{
    FEED_ENABLED, GATEWAY_CONNECTIONS, HARMFUL_POLICIES, PROCESS_INFO, PROCESS_READY, PROCESS_START,
    WORKER_HELD, WORKER_OLDEST_BODY, WORKER_SHARD_OWNER, WORKER_UNACKED_BODIES,
};
use shared::mysql::{self, Pool, inspection};
use shared::redis::inspection::Inspection;
use shared::redis::liveness_registry::LivenessRegistry;
use shared::redis::process_addresses::ProcessAddresses;
use shared::shard::{ShardId, ShardLayout};
use shared::shard_state::{Change, Phase, ShardState};
use shared::webhook::WebhookId;

use super::metrics::Metrics;
use super::report::{FailingWebhook, Process, Shard, ShardsChange, Status};
use crate::context::Context;

/// A process without a heartbeat for this long is dead; the longer of the two that processes use.
const EXPIRY: Duration = Duration::from_secs(6);

/// A webhook that fails for longer than this is a finding.
const WEBHOOK_FAILS_MS: i64 = 15 * 60_000;

/// Looks once.
pub(super) async fn look(context: &Context) -> Status {
    let mut status = Status::default();
    let config = context.config();
    status.stores.mysql.url = config.mysql.url.to_string();
    status.stores.redis.url = config.redis.url.to_string();
    status.stores.rabbitmq.url = config.amqp.url.to_string();
    let shards = match look_at_mysql(context, &mut status).await {
        Ok(state) => {
            status.shards_change = state.change.map(|change| change_of(state, change));
            Some(state.main())
        }
        Err(error) => {
            status.unknown.push(format!("{error:#}"));
            config.shards.checked().ok().flatten()
        }
    };
    let mut by_shard = BTreeMap::new();
    if let Err(error) = look_at_processes(context, shards, &mut status, &mut by_shard).await {
        status.unknown.push(format!("{error:#}"));
    }
    match shards {
        Some(shards) => {
            if let Err(error) = look_at_queues(context, shards, &mut status, &mut by_shard).await {
                status.unknown.push(format!("{error:#}"));
            }
            status.shards = Some(shards.all().map(|shard| take(&mut by_shard, shard.number())).collect());
        }
        None => status.unknown.push("the queues of the shards: their number is not known".to_owned()),
    }
    status
}

fn take(by_shard: &mut BTreeMap<u16, Shard>, shard: u16) -> Shard {
    by_shard.remove(&shard).unwrap_or(Shard { shard, ..Shard::default() })
}

fn change_of(state: ShardState, change: Change) -> ShardsChange {
    let phase = match change.phase {
        Phase::Announced(_) => "announced",
        Phase::Paused(_) => "paused",
        Phase::Draining => "draining",
        Phase::Retiring => "retiring",
        Phase::Removing => "removing",
    };
    ShardsChange { from: state.current.get(), to: change.to.get(), phase }
}

async fn look_at_mysql(context: &Context, status: &mut Status) -> anyhow::Result<ShardState> {
    let pool = context.mysql().await?;
    status.stores.mysql.is_reachable = true;
    status.stores.mysql.version = Some(inspection::server_version(&pool).await?);
    let migrations = mysql::migrations(&pool).await?;
    let pending = migrations.iter().filter(|migration| !migration.is_applied).count();
    status.migrations_pending = Some(pending);
    if pending == migrations.len() {
        // No process has ever started.
        let configured = context.config().shards.checked()?;
        return Ok(ShardState::stable(configured.unwrap_or(ShardLayout::DEFAULT)));
    }
    if pending == 0 {
        status.webhooks_failing = failing_webhooks(&pool).await?;
    }
    context.shard_state(&pool).await
}

/// Those that fail longest, by their first failure.
async fn failing_webhooks(pool: &Pool) -> anyhow::Result<Vec<FailingWebhook>> {
    let limit = unix_millis() - WEBHOOK_FAILS_MS;
    let mut failing: BTreeMap<String, FailingWebhook> = BTreeMap::new();
    for state in mysql::feed::reader_states(pool, "webhook_").await? {
        let is_failing = state.failures > 0 && !state.is_paused && state.failing_since < limit;
        let Some(id) = WebhookId::of_reader(&state.name).filter(|_| is_failing) else { continue };
        let id = id.as_str().to_owned();
        let known = failing.entry(id.clone()).or_insert(FailingWebhook {
            id,
            failing_since_ms: state.failing_since,
            last_error: state.last_error,
        });
        known.failing_since_ms = known.failing_since_ms.min(state.failing_since);
    }
    Ok(failing.into_values().collect())
}

async fn look_at_processes(
    context: &Context,
    layout: Option<ShardLayout>,
    status: &mut Status,
    by_shard: &mut BTreeMap<u16, Shard>,
) -> anyhow::Result<()> {
    let redis = context.redis().await?;
    status.stores.redis.is_reachable = true;
    status.stores.redis.version = Some(Inspection::new(redis.clone()).server_version().await?);
    let gateways = LivenessRegistry::gateways(redis.clone(), EXPIRY);
    let workers = LivenessRegistry::workers(redis.clone(), EXPIRY);
    let report = Processes::new(gateways, workers, ProcessAddresses::new(redis)).report().await?;
    for listed in &report.processes {
        let mut process = Process {
            role: listed.entry.role,
            id: listed.entry.id.clone(),
            address: listed.entry.address.clone(),
            ..Process::default()
        };
        match &listed.result {
            Fetched::Metrics(text) => {
                let is_shown = |shard: ShardId| layout.is_none_or(|layout| layout.has(shard));
                read(&mut process, Metrics(text), is_shown);
                read_shards(&process.id, Metrics(text), is_shown, by_shard);
            }
            Fetched::Error(error) => {
                status.unknown.push(format!("{} {}: {error}", process.role, process.id));
                process.error = Some(error.clone());
            }
        }
        status.processes.push(process);
    }
    Ok(())
}

fn read(process: &mut Process, metrics: Metrics<'_>, is_shown: impl Fn(ShardId) -> bool) {
    process.version = metrics.label(PROCESS_INFO, "version").map(str::to_owned);
    process.started_at_ms =
        metrics.number(PROCESS_START).and_then(|seconds| i64::try_from(seconds * 1_000).ok());
    process.is_ready = metrics.value(PROCESS_READY).map(|ready| ready > 0.0);
    process.harmful_policies = metrics.number(HARMFUL_POLICIES);
    process.is_feeding = metrics.value(FEED_ENABLED).map(|enabled| enabled > 0.0);
    if process.role == "gateway" {
        process.connections = metrics.number(GATEWAY_CONNECTIONS).or(Some(0));
    } else {
        let owned = metrics.by_shard(WORKER_SHARD_OWNER).filter(|(_, is_owner)| *is_owner > 0.0);
        let owned = owned.map(|(shard, _)| shard).filter(|shard| is_shown(*shard));
        let mut shards: Vec<u16> = owned.map(ShardId::number).collect();
        shards.sort_unstable();
        process.shards = Some(shards);
    }
}

fn read_shards(
    worker: &str,
    metrics: Metrics<'_>,
    is_shown: impl Fn(ShardId) -> bool,
    by_shard: &mut BTreeMap<u16, Shard>,
) {
    let mut of = |shard: ShardId, change: &dyn Fn(&mut Shard)| {
        if !is_shown(shard) {
            return;
        }
        let shard = shard.number();
        change(by_shard.entry(shard).or_insert(Shard { shard, ..Shard::default() }));
    };
    for (shard, is_owner) in metrics.by_shard(WORKER_SHARD_OWNER) {
        if is_owner > 0.0 {
            of(shard, &|shard| shard.owners.push(worker.to_owned()));
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    for (shard, bodies) in metrics.by_shard(WORKER_UNACKED_BODIES) {
        of(shard, &|shard| *shard.unacked_bodies.get_or_insert_default() += bodies as u64);
    }
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
    for (shard, published_s) in metrics.by_shard(WORKER_OLDEST_BODY) {
        let age_ms = if published_s > 0.0 { unix_millis() - (published_s * 1_000.0) as i64 } else { 0 };
        of(shard, &|shard| {
            let oldest = shard.oldest_body_ms.get_or_insert_default();
            *oldest = age_ms.max(*oldest);
        });
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    for (shard, messages) in metrics.by_shard(WORKER_HELD) {
        of(shard, &|shard| *shard.held_messages.get_or_insert_default() += messages as u64);
    }
}

async fn look_at_queues(
    context: &Context,
    shards: ShardLayout,
    status: &mut Status,
    by_shard: &mut BTreeMap<u16, Shard>,
) -> anyhow::Result<()> {
    let rabbitmq = context.rabbitmq(shards).await?;
    status.stores.rabbitmq.is_reachable = true;
    match inspector::server_version(&context.config().amqp).await {
        Ok(version) => status.stores.rabbitmq.version = version,
        Err(error) => status.unknown.push(error),
    }
    for shard in shards.all() {
        let state = rabbitmq.shard_queue(shard).await?;
        let number = shard.number();
        let of_shard = by_shard.entry(number).or_insert(Shard { shard: number, ..Shard::default() });
        of_shard.ready_bodies = state.map(|state| state.ready_bodies);
        of_shard.consumers = state.map(|state| state.consumers);
    }
    status.dead_letters = rabbitmq.dead_letters().await?;
    rabbitmq.close().await;
    Ok(())
}
