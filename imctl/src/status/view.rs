//! The status for a person.

use shared::ids::unix_millis;

use super::report::{Process, Shard, ShardsChange, Status, Store};
use crate::text::{duration, or_dash, printable, table, yes};

/// All tables, and what is wrong at the end.
pub(super) fn text(status: &Status) -> String {
    let mut parts = vec![stores(status)];
    let processes = status.processes.iter().map(process);
    let header = ["role", "id", "address", "version", "up", "ready", "connections", "shards"];
    parts.push(table(&header, processes));
    if let Some(shards) = &status.shards {
        let header =
            ["shard", "owner", "consumers", "ready bodies", "unacked bodies", "oldest body", "held messages"];
        parts.push(table(&header, shards.iter().map(shard)));
    }
    if let Some(ShardsChange { from, to, phase }) = &status.shards_change {
        parts.push(format!("the number of shards changes from {from} to {to}: {phase}"));
    }
    parts.push(format!("dead letters: {}", or_dash(status.dead_letters)));
    let mut last = Vec::new();
    last.extend(status.unknown.iter().map(|unknown| format!("unknown: {}", printable(unknown))));
    last.extend(status.findings.iter().map(|found| format!("wrong: {}", printable(&found.message))));
    if last.is_empty() {
        last.push("nothing is wrong".to_owned());
    }
    parts.push(last.join("\n"));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn stores(status: &Status) -> String {
    let row = |name: &str, store: &Store| {
        vec![name.to_owned(), store.url.clone(), yes(store.is_reachable), or_dash(store.version.as_deref())]
    };
    let stores = &status.stores;
    table(
        &["store", "address", "reachable", "version"],
        [row("MySQL", &stores.mysql), row("Redis", &stores.redis), row("RabbitMQ", &stores.rabbitmq)],
    )
}

fn process(process: &Process) -> Vec<String> {
    let up = process.started_at_ms.map(|started| duration(unix_millis() - started));
    let shards = process.shards.as_ref().map(|shards| {
        let shown: Vec<String> = shards.iter().take(16).map(ToString::to_string).collect();
        let more = if shards.len() > shown.len() { " …" } else { "" };
        format!("{} ({}{more})", shards.len(), shown.join(" "))
    });
    vec![
        process.role.to_owned(),
        process.id.clone(),
        or_dash(process.address.as_deref()),
        or_dash(process.version.as_deref()),
        or_dash(up),
        or_dash(process.is_ready.map(yes)),
        or_dash(process.connections),
        or_dash(shards),
    ]
}

fn shard(shard: &Shard) -> Vec<String> {
    let owners = if shard.owners.is_empty() { "nobody".to_owned() } else { shard.owners.join(" ") };
    vec![
        shard.shard.to_string(),
        owners,
        or_dash(shard.consumers),
        or_dash(shard.ready_bodies),
        or_dash(shard.unacked_bodies),
        or_dash(shard.oldest_body_ms.map(duration)),
        or_dash(shard.held_messages),
    ]
}
